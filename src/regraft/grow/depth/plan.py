"""What new layers are made of: each a weighted sum of layers that are there. Layers are rows here, so the plan is a `Graft`.

Enters: weights (new layers, old layers), and how loudly each new layer writes. Leaves: the tensors of the new checkpoint, made one at a
time from the files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import sparse

from regraft.checkpoint import Blocks, TensorInfo
from regraft.checkpoint.rebuild import Piece
from regraft.checkpoint.shards import read_tensor
from regraft.errors import ParameterError
from regraft.graft import Graft
from regraft.grow.depth.stack import LayerStack


@dataclass(frozen=True)
class Plan:
    """``new = W @ old`` over layers.

    Attributes
    ----------
    graft : W, shape (new layers, old layers).
    new : numbers of the new layers that are not simply an old one in its turn; what a short training may be kept to.
    loudness : for each new layer the factor of what it adds to the residual stream; None: 1 everywhere, 0 makes a layer that passes its
        input on.
    """

    graft: Graft
    new: tuple[int, ...] = ()
    loudness: tuple[float, ...] | None = None

    @classmethod
    def copies(cls, sources: Sequence[int], columns: int, *, loudness: Sequence[float] | None = None) -> "Plan":
        """Layer i is a copy of old layer ``sources[i]``; the second and later copies of a layer count as new."""
        seen: set[int] = set()
        new = [place for place, source in enumerate(sources) if source in seen or seen.add(source)]  # type: ignore[func-returns-value]
        graft = Graft.copy_of(np.asarray(sources, dtype=np.int64), columns)
        return cls(graft, tuple(new), None if loudness is None else tuple(loudness))

    @classmethod
    def mix(cls, weights: Any, *, new: Sequence[int] | None = None) -> "Plan":
        """Layer i is the sum of old layers with ``weights[i]``, shape (new layers, old layers)."""
        matrix = sparse.csr_matrix(np.asarray(weights, dtype=np.float64))
        return cls(Graft(matrix), tuple(range(matrix.shape[0])) if new is None else tuple(new))

    @property
    def depth(self) -> int:
        return self.graft.shape[0]

    @property
    def sources(self) -> list[int]:
        """For each new layer the old one that weighs most in it."""
        return [int(row) for row in np.abs(self.graft.weights.toarray()).argmax(1)]

    def remarks(self, before: int) -> list[str]:
        """What a user should know of it; `before` is how many layers the model had."""
        told = []
        if self.depth == before and not self.new and self.sources == list(range(before)):
            told.append(f"the model has {before} layers already: the result is the model as it was")
        silent = [str(layer) for layer, loud in enumerate(self.loudness or ()) if not loud]
        if silent:
            told.append(f"layers {', '.join(silent)} are silent: they pass their input on until training wakes them")
        return told

    def row(self, layer: int) -> dict[int, float]:
        """Weights of one new layer over old ones, without zeros."""
        row = self.graft.weights[layer]
        return {int(column): float(value) for column, value in zip(row.indices, row.data, strict=True) if value}

    def described(self) -> list[dict[str, float]]:
        """Each new layer's weights, for regraft.json."""
        return [{str(old): weight for old, weight in self.row(layer).items()} for layer in range(self.depth)]


def pieces(stack: LayerStack, plan: Plan) -> dict[str, Piece]:
    """Every tensor of the new checkpoint by its stored name, in the order of the old files.

    A layer that is a copy keeps its bytes; one that is mixed, or not as loud as it was, is computed in float32 and rounded to the stored
    type, tensor by tensor.
    """
    if plan.graft.shape[1] != stack.depth:
        raise ParameterError(f"a plan over {plan.graft.shape[1]} layers for a stack of {stack.depth}")
    tensors = stack.checkpoint.tensors
    silenced = frozenset(stack.writers if plan.loudness is not None else ())
    made: dict[str, Piece] = {}
    for layer in range(plan.depth):
        row = plan.row(layer)
        first = next(iter(row), 0)
        if len(row) != 1:
            stack.templates  # noqa: B018  # mixing asks for layers that are all alike
        loud = 1.0 if plan.loudness is None else plan.loudness[layer]
        for template in stack.layers[first]:
            weights = {old: weight * (loud if template in silenced else 1.0) for old, weight in row.items()}
            infos = {old: tensors[stack.layers[old][template]] for old in weights}
            made[template.replace("{}", str(layer))] = _piece(infos, weights, tensors[stack.layers[first][template]])
    listed = list(tensors)
    start = min(listed.index(name) for layer in stack.layers for name in layer.values())
    before = {name: tensors[name] for name in stack.outside if listed.index(name) < start}
    behind = {name: tensors[name] for name in stack.outside if listed.index(name) > start}
    return {**before, **made, **behind}


def _piece(infos: Mapping[int, TensorInfo], weights: Mapping[int, float], like: TensorInfo) -> Piece:
    if list(weights.values()) == [1.0]:
        return next(iter(infos.values()))
    return Blocks(like.shape, like.torch_dtype, partial(_mixed, infos, weights, like))


def _mixed(infos: Mapping[int, TensorInfo], weights: Mapping[int, float], like: TensorInfo) -> Iterator[torch.Tensor]:
    total = torch.zeros(like.shape, dtype=torch.float32)
    for old, info in infos.items():
        if weights[old]:
            total.add_(read_tensor(info).float(), alpha=weights[old])
    yield total.to(like.torch_dtype)
