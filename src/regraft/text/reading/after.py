"""What is done with vectors after pooling, fitted on vectors and linear: it becomes a `Dense` layer, the last stock part of an encoder.

Enters: vectors (n, d). Leaves: x -> W x + b, as matrices or as a module.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from torch import nn

from regraft.errors import ParameterError

After = Literal["none", "center", "all-but-the-top", "remove-first", "whiten"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Affine:
    """`weight` (k, d), `bias` (k,)."""

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]

    def __call__(self, vectors: Floats) -> Floats:
        return (vectors @ self.weight.T + self.bias).astype(np.float32)


def fit_after(vectors: Floats, after: After, directions: int | None = None) -> Affine:
    r"""The transform `after`, fitted on `vectors` (n, d).

    - center: :math:`x - \mu`
    - all-but-the-top: centered, without the first `directions` principal components, by default d / 100 (Mu and Viswanath 2018)
    - remove-first: not centered, without the first right singular vectors, by default 1 (SIF, Arora et al. 2017)
    - whiten: :math:`\Lambda^{-1/2} U^\top (x - \mu)`, largest variance first, directions without variance left out (Su et al. 2021)

    Raises `ParameterError` for another name, and where there are too few vectors.
    """
    if after not in get_args(After) or after == "none":
        raise ParameterError(f"after={after}: choose {', '.join(get_args(After))}")
    rows = vectors.astype(np.float64)
    count, width = rows.shape
    if count < 2:
        raise ParameterError(f"{after}: {count} vector is too few to fit it on")
    mean = np.zeros(width) if after == "remove-first" else rows.mean(0)
    if after == "center":
        return Affine(np.eye(width), -mean)
    values, axes = np.linalg.eigh((rows - mean).T @ (rows - mean) / count)
    values, axes = values[::-1], axes[:, ::-1]
    if after == "whiten":
        kept = values > 1e-10 * max(values[0], 1e-300)
        weight = (axes[:, kept] / np.sqrt(values[kept])).T
        return Affine(weight, -weight @ mean)
    number = directions if directions is not None else 1 if after == "remove-first" else max(1, round(width / 100))
    if not 0 <= number < width:
        raise ParameterError(f"directions={number}: from 0 to {width - 1}")
    weight = np.eye(width) - axes[:, :number] @ axes[:, :number].T
    return Affine(weight, -weight @ mean)


def append(model: SentenceTransformer, transform: Affine) -> SentenceTransformer:
    """`model` with the transform behind it; where it ended in unit length, so it does again."""
    first = next(model.parameters(), None)
    weight, bias = (torch.from_numpy(one.astype(np.float32)) for one in (transform.weight, transform.bias))
    dense = Dense(weight.shape[1], weight.shape[0], activation_function=nn.Identity(), init_weight=weight, init_bias=nn.Parameter(bias))
    dense.to(first.device if first is not None else "cpu")
    modules: list[Any] = list(model)
    again = [Normalize()] if ends_at_unit_length(model) else []
    return SentenceTransformer(modules=[*modules, dense, *again], device=str(model.device)).eval()


def ends_at_unit_length(model: SentenceTransformer) -> bool:
    return isinstance(list(model)[-1], Normalize)


def unit(vectors: Floats) -> Floats:
    """Rows at the length of 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))
