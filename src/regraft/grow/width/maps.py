"""Maps on an axis, and the tensors of the new checkpoint: each the old one with a map on every dimension that runs over an axis.

What writes to an axis gets the map S, what reads from it the map R, both of shape (new, old). A linear network computes what it did if
:math:`R^T S = 1` on every axis; what stands between (activations, heads, norms) asks for more, see `regraft.grow.width.duplicates`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from scipy import sparse

from regraft.checkpoint import Blocks, TensorInfo
from regraft.checkpoint.rebuild import Piece
from regraft.checkpoint.shards import read_rows, read_tensor
from regraft.graft import Graft
from regraft.grow.width.axes import Axes, Axis, Place, Side, Width

ROWS = 8192


@dataclass(frozen=True)
class Maps:
    """Maps (new, old) of one axis.

    Attributes
    ----------
    write, read : of what writes to the axis and what reads from it.
    norm : of the weights of norms over it, as `write` if None. last : of the norm before a tied head, as `read` if None.
    """

    write: Graft
    read: Graft
    norm: Graft | None = None
    last: Graft | None = None

    def of(self, side: Side) -> Graft:
        if side == "norm":
            return self.norm or self.write
        if side == "last":
            return self.last or self.read
        return self.write if side == "write" else self.read

    def repeated(self, size: int) -> "Maps":
        """The maps of `size` numbers for each one of these: of heads whose numbers stay together."""
        return Maps(*(None if one is None else blocks(one, size) for one in (self.write, self.read, self.norm, self.last)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Term:
    """A stored tensor with a map on each of its dimensions; None leaves one alone."""

    info: TensorInfo
    maps: tuple[Graft | None, ...]


@dataclass(frozen=True)
class Plan:
    """How a model gets another width.

    Attributes
    ----------
    width : the new sizes.
    maps : for each axis its maps, or one for each layer; "heads" and "groups" in numbers, not in heads.
    exact : whether the new model computes what the old one did, up to rounding. why : what makes it so, or not.
    eps : factor of what norms add to the variance.
    terms : overrides what a stored tensor is the sum of. noise : standard deviation of what is added to matrices, by that of their weights;
        `noisy_half`: only to the last term, where it is. seed : of the noise.
    """

    width: Width
    maps: Mapping[Axis, Maps | Sequence[Maps]]
    exact: bool
    why: str
    eps: float = 1.0
    facts: Mapping[str, object] = field(default_factory=dict)
    terms: Callable[[Axes, "Plan", str], list[Term]] | None = None
    noise: float = 0.0
    seed: int = 0
    noisy_half: bool = False

    def on(self, axis: Axis, layer: int | None) -> Maps:
        maps = self.maps[axis]
        return maps if isinstance(maps, Maps) else maps[layer or 0]

    def graft(self, place: Place | None, layer: int | None) -> Graft | None:
        """The map of a dimension: the maps of its axes, one behind the other."""
        if place is None:
            return None
        parts = [self.on(axis, layer).of(place.side) for axis in place.axes]
        return parts[0] if len(parts) == 1 else Graft(sparse.csr_matrix(sparse.block_diag([one.weights for one in parts])))


def blocks(graft: Graft, size: int) -> Graft:
    """Each row stands for `size` of them that move together."""
    return Graft(sparse.csr_matrix(sparse.kron(graft.weights, sparse.identity(size))))


def term(axes: Axes, plan: Plan, stored: str) -> Term:
    layer = axes.layer(stored)
    return Term(axes.checkpoint.tensors[stored], tuple(plan.graft(place, layer) for place in axes.places[stored]))


def pieces(axes: Axes, plan: Plan) -> dict[str, Piece]:
    """Every tensor of the new checkpoint by its stored name; computed in float32, rounded to the stored type, a tensor at a time."""
    made: dict[str, Piece] = {}
    for number, (name, info) in enumerate(axes.checkpoint.tensors.items()):
        places = axes.places.get(name, ())
        if not any(places):
            made[name] = info
            continue
        terms = [term(axes, plan, name)] if plan.terms is None else plan.terms(axes, plan, name)
        shape = tuple(size if graft is None else graft.shape[0] for size, graft in zip(info.shape, terms[0].maps, strict=True))
        noise = plan.noise if len(shape) > 1 else 0.0
        made[name] = Blocks(shape, info.torch_dtype, partial(_summed, terms, info.torch_dtype, noise, plan.seed + number, plan.noisy_half))
    return made


def _summed(terms: list[Term], dtype: torch.dtype, noise: float, seed: int, half: bool) -> Iterator[torch.Tensor]:
    """The sum of `terms`, in blocks of rows where rows are left alone (a table may not fit twice)."""
    generator = torch.Generator().manual_seed(seed)
    rows = terms[0].info.shape[0]
    by_rows = all(one.maps[0] is None and len(one.maps) == 2 for one in terms)
    for start in range(0, rows, ROWS) if by_rows else [None]:
        total: torch.Tensor | None = None
        for number, one in enumerate(terms):
            old = (read_tensor(one.info) if start is None else read_rows(one.info, start, min(rows, start + ROWS))).float()
            if noise and half and number == 1:  # the second member
                old = old + noise * float(old.std()) * torch.randn(old.shape, generator=generator)
            new = mapped(old, one.maps)
            total = new if total is None else total.add_(new)
        assert total is not None
        if noise and not half:
            total += noise * float(total.std()) * torch.randn(total.shape, generator=generator)
        yield total.to(dtype)


def mapped(tensor: torch.Tensor, maps: Sequence[Graft | None]) -> torch.Tensor:
    """`tensor` with a map on each dimension."""
    for dim, graft in enumerate(maps):
        if graft is not None:
            front = tensor.movedim(dim, 0)
            tensor = graft.apply(front.reshape(front.shape[0], -1)).reshape(graft.shape[0], *front.shape[1:]).movedim(0, dim)
    return tensor.contiguous()


def scaled(graft: Graft, by: float) -> Graft:
    """`graft` with rows multiplied by `by`."""
    return Graft(sparse.csr_matrix(graft.weights * by))
