"""Labelled arrays: scikit-learn's digits by name, or a .npz file with `x` (examples, ...) and `y` (examples,), and perhaps `x_test`,
`y_test`.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.errors import CorpusError

HELD_OUT = 0.2


@dataclass(frozen=True)
class Arrays:
    """Examples (n, ...) float32 and labels (n,), for training and for tests. `names`: the label that each number stands for."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    names: list[str]
    sha256: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])


def open_arrays(name: str, seed: int = 0) -> Arrays:
    """Raises `CorpusError`: no such file, no .npz, arrays that are missing, of other lengths, not finite, or of one class."""
    if name == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        return _split(found.images / 16, found.target, None, seed, name)
    path = Path(name)
    if not path.is_file():
        raise CorpusError(f"{name}: no such file: give digits, or a .npz file with x and y")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile):
        raise CorpusError(f"{name}: not a .npz file of plain arrays") from None
    if lost := [key for key in ("x", "y") if key not in arrays]:
        raise CorpusError(f"{name}: has no array '{lost[0]}': it needs x (examples, ...) and y (examples,)")
    test = (arrays["x_test"], arrays["y_test"]) if {"x_test", "y_test"} <= arrays.keys() else None
    return _split(arrays["x"], arrays["y"], test, seed, name)


def _split(x: Any, y: Any, test: Any, seed: int, name: str) -> Arrays:
    sides = [(x, y)] if test is None else [(x, y), test]
    for a, b in sides:
        if b.ndim != 1 or len(a) != len(b) or len(a) < 10:
            raise CorpusError(f"{name}: x {a.shape} and y {b.shape} are not as many examples and labels, 10 or more")
        if a.dtype.kind not in "fiu" or not np.isfinite(a).all():
            raise CorpusError(f"{name}: x holds what is no finite number")
    if test is None:
        order = np.random.default_rng(seed).permutation(len(x))
        cut = round(len(x) * (1 - HELD_OUT))
        sides = [(x[order[:cut]], y[order[:cut]]), (x[order[cut:]], y[order[cut:]])]
    names = sorted({str(one) for one in sides[0][1].tolist()})
    if len(names) < 2 or {str(one) for one in sides[1][1].tolist()} - set(names):
        raise CorpusError(f"{name}: labels for training are of fewer than two classes, or lack one that tests have")
    number = {label: place for place, label in enumerate(names)}
    digest = hashlib.sha256(np.ascontiguousarray(x).tobytes() + repr(y.tolist()).encode()).hexdigest()
    scale = 1.0 if x.dtype.kind == "f" else max(1.0, float(np.abs(x).max()))
    (x, y), (x_test, y_test) = (
        (torch.from_numpy(a.astype(np.float32) / scale), torch.tensor([number[str(label)] for label in b.tolist()])) for a, b in sides
    )
    return Arrays(x, y, x_test, y_test, names, digest)
