"""More units out of those there are: copies whose readers share the weight, or silent ones. When the function stays, and when not.

With g(j) the old unit of new unit j and c its number of copies, writers get ``S[j, g(j)] = 1`` and readers ``R[j, g(j)] = 1 / c``, so
that :math:`R^T S = 1`. What stands between two layers asks for more:

- neurons: an activation acts on each by itself, so any copies will do; gate and value take the same ones.
- heads: whole heads are copied, and under grouped-query attention whole groups, so that each query head keeps its keys.
- residual stream: norms see all of it. If every unit has the same number of copies (the new width is a multiple of the old one), its mean
  and mean square stay, and so does every norm. Otherwise they don't.
- residual stream, silent units: writers get 0, so what readers weigh them with is free. Under RMSNorm, which takes no mean away, the mean
  square falls by d / D: norm weights times sqrt(d / D) and epsilon times d / D undo that. Under LayerNorm the mean falls too, and no weight
  undoes it: not to be had.
- a tied head reads with the writers' map; the norm before it then carries the division.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from regraft.errors import ParameterError
from regraft.graft import Graft
from regraft.grow.width.axes import Axes, Axis, Width
from regraft.grow.width.maps import Maps

Split = Literal["even", "random"]
Ids = npt.NDArray[np.int64]


def check_wider(name: str, axes: Axes, width: Width) -> None:
    """Raise `ParameterError` unless no axis shrinks."""
    for axis, asked in (("hidden", "--hidden"), ("ffn", "--ffn")):
        before, after = getattr(axes.width, axis), getattr(width, axis)
        if after < before:
            raise ParameterError(f"{name}: {asked} {after}: it only widens, and the model has {before}: choose subclone")


def copies(old: int, new: int, random: np.random.Generator | None = None) -> Ids:
    """Old unit of each new one: the old ones as they are, behind them them again in turn, or drawn by `random`."""
    ids = np.arange(new, dtype=np.int64) % old
    if random is not None and new > old:
        ids[old:] = random.integers(old, size=new - old)
    return ids


def duplicated(ids: Ids, old: int, split: Split = "even", random: np.random.Generator | None = None) -> Maps:
    """Maps of copies; `split` "random" parts a unit's weight among its readers by chance, so that copies learn apart."""
    shares = np.ones(len(ids)) if split == "even" or random is None else random.uniform(0.25, 0.75, size=len(ids))
    total = np.bincount(ids, weights=shares, minlength=old)
    write = Graft.copy_of(ids, old)
    count = np.arange(len(ids) + 1)
    return Maps(write, Graft(sparse.csr_matrix((shares / total[ids], ids, count), shape=(len(ids), old))))


def silent(old: int, new: int, random: np.random.Generator) -> Maps:
    """Maps of units that nothing is written to yet; exact under RMSNorm.

    Readers of the new ones mix what they read of two old units by chance, so that the new ones learn.
    """
    more = new - old
    eye, root = sparse.identity(old), np.sqrt(old / new)
    ids = random.integers(old, size=(more, 2))
    weights = random.normal(size=(more, 2)) / np.sqrt(2)
    mixed = sparse.csr_matrix((weights.ravel(), (np.repeat(np.arange(more), 2), ids.ravel())), shape=(more, old))
    write = Graft(sparse.csr_matrix(sparse.vstack([eye, sparse.csr_matrix((more, old))])))
    read = Graft(sparse.csr_matrix(sparse.vstack([eye, mixed])))
    norm = Graft(sparse.csr_matrix(sparse.vstack([eye, np.full((more, old), 1 / old)]) * root))
    return Maps(write, read, norm, norm)


def heads_of(width: Width, of_groups: Maps) -> dict[Axis, Maps]:
    """Maps of key-value heads and of query heads out of maps of groups."""
    each = width.heads // width.groups
    return {"groups": of_groups.repeated(width.head_dim), "heads": of_groups.repeated(width.head_dim * each)}
