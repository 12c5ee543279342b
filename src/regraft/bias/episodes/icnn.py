r"""ICNN: how clean the neighbourhoods of labelled points are, as a score in (0, 1] and as what a loss is made of.

Enters: points with labels, and a set that their neighbours are looked for in (by default the points themselves). Leaves: the score, its
three parts, and how each class and each point fares. Arrays are (n, d) and (n,); blocks of rows keep n x n distances out of memory where no
gradient is asked for.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.bias.episodes.distances import FlooredDistance, how_far
from regraft.errors import ParameterError

Variant = Literal["modified", "original"]


@dataclass(frozen=True, kw_only=True)
class Icnn:
    r"""Settings of the score.

    k : neighbours that the statistics take. fetched : neighbours that are looked at (the release's ``ipc``), at least k + 1; by default k
    + 1.
    variant : "modified", the score of the experiments (:func:`modified`); "original", that of the earlier work (:func:`original`, k = 5
    there), with its variance term if `use_omega`. That the paper's loss is the modified score is read from its scripts (INFERRED).
    compat : "released" drops the nearest point also where points and neighbours are different sets, as the authors' code does; so a
    query's true nearest neighbour is lost.
    """

    k: int = 4
    fetched: int | None = None
    eps: float = 1e-7
    variant: Variant = "modified"
    use_omega: bool = False
    compat: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ParameterError(f"ICNN: k = {self.k} neighbours: ask for 1 or more")
        if self.fetched is not None and self.fetched <= self.k:
            raise ParameterError(f"ICNN: {self.fetched} neighbours fetched for k = {self.k}: fetch k + 1 or more")


@dataclass(frozen=True, eq=False)
class Points:
    """Of each of n points: distances to its nearest same-class and other-class neighbours as ratios, and how many of either there are.

    a, b : (n,) means of ratios. same, other : (n,) how many of the k are of the point's class, and of another. sure : the share of
    same-class neighbours counts as 1, because k had to be made smaller than asked.
    """

    a: Tensor
    b: Tensor
    same: Tensor
    other: Tensor
    sure: bool

    def parts(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """lambda of same class, lambda of other classes, gamma: over all points, or over those of the mask `rows` (n,)."""
        a, b, same, other = (one if rows is None else one[rows] for one in (self.a, self.b, self.same, self.other))
        near = 1 - a.sum() / (same > 0).sum().clamp_min(1)
        far = b.sum() / (other > 0).sum() if bool((other > 0).any()) else b.new_ones(())
        share = near.new_ones(()) if self.sure else (same.to(a.dtype) / (same + other)).mean()
        return near, far, share

    def score(self, rows: Tensor | None = None) -> Tensor:
        near, far, share = self.parts(rows)
        return ((near + far) / 2 + share) / 2

    def each(self) -> Tensor:
        """(n,) the score of each point alone."""
        near, far = 1 - self.a, torch.where(self.other > 0, self.b, 1.0)
        share = torch.ones_like(near) if self.sure else self.same.to(near.dtype) / (self.same + self.other)
        return ((near + far) / 2 + share) / 2


@dataclass(frozen=True, eq=False)
class IcnnScore:
    """`value` in (0, 1], higher is cleaner. `by_class` : label to score. `by_point` : (n,). `parts` : by name, what `value` is made of."""

    value: float
    by_class: dict[int, float]
    by_point: Tensor
    parts: dict[str, float]


def neighbours(
    x: Tensor, y: Tensor, ref: Tensor, ref_y: Tensor, count: int, distance: Any, *, same_set: bool, drop_first: bool, block: int = 1024
) -> tuple[Tensor, Tensor]:
    """(n, count) ascending distances to the nearest of `ref`, and whether each is of the point's class.

    In the same set a point is left out of its own neighbours by its place, so that a second point that lies exactly there counts.
    `drop_first` leaves out whatever comes first instead.
    """
    distances, agree = [], []
    for start in range(0, len(x), block):
        found = how_far(distance, x[start : start + block], ref)
        if same_set and not drop_first:
            own = torch.arange(start, start + len(found), device=x.device)[:, None] == torch.arange(len(ref), device=x.device)
            found = found.masked_fill(own, torch.inf)
        near, at = found.topk(count + drop_first, largest=False)
        distances.append(near[:, int(drop_first) :])
        agree.append(ref_y[at[:, int(drop_first) :]] == y[start : start + block, None])
    return torch.cat(distances), torch.cat(agree)


def modified(distances: Tensor, agree: Tensor, k: int, eps: float, sure: bool) -> Points:
    r"""The score of the experiments, of (n, fetched) ascending distances D and same-class marks.

    r_i is the distance to the nearest fetched point of another class (infinite without one); :math:`\rho_{ij} = D_{ij} / (r_i +
    \epsilon)` over j <= k, divided by max(1, max_j rho_ij); a_i is its mean over same-class neighbours, b_i the mean distance to the
    others by the greatest such distance of all points.
    """
    rival = torch.where(agree, torch.inf, distances).amin(1, keepdim=True)
    close, same = distances[:, :k], agree[:, :k]
    ratio = close / (rival + eps)
    ratio = ratio / ratio.amax(1, keepdim=True).clamp_min(1)
    ours, others = same.sum(1), (~same).sum(1)
    far = torch.where(same, 0.0, close)
    a = torch.where(same, ratio, 0.0).sum(1) / ours.clamp_min(1)
    b = (far / far.max().clamp_min(eps)).sum(1) / others.clamp_min(1)
    return Points(a, b, ours, others, sure)


def original(distances: Tensor, agree: Tensor, k: int, eps: float, use_omega: bool) -> Tensor:
    r"""(n,) the score of the earlier work: :math:`(\lambda + \gamma) / 2`, or :math:`(\lambda + \gamma + \omega) / 3`, powers of 1/2.

    With nd the k distances scaled to [0, 1] in each row: lambda sums 1 - nd over the same class and nd over others, by the greatest such
    sum; omega is 1 - Var(nd of the same class) - Var(nd of others) (variance of a population, so one neighbour has none: INFERRED); gamma
    is the share of the same class.
    """
    close, same = distances[:, :k], agree[:, :k].to(distances.dtype)
    low, high = close.amin(1, keepdim=True), close.amax(1, keepdim=True)
    nd = (close - low) / (high - low).clamp_min(eps)
    total = (same * (1 - nd) + (1 - same) * nd).sum(1)
    lam = root(total / total.max().clamp_min(eps), eps)
    gamma = same.mean(1).sqrt()
    if not use_omega:
        return (lam + gamma) / 2
    omega = root((1 - variance(nd, same) - variance(nd, 1 - same)).clamp_min(0), eps)
    return (lam + gamma + omega) / 3


def variance(values: Tensor, weight: Tensor) -> Tensor:
    """(n,) of the values in each row that `weight` marks with 1; 0 where it marks none."""
    count = weight.sum(1).clamp_min(1)
    mean = (values * weight).sum(1) / count
    return ((values - mean[:, None]).square() * weight).sum(1) / count


def root(value: Tensor, eps: float) -> Tensor:
    """Square root whose slope stays finite at 0."""
    return torch.where(value > eps, value.clamp_min(eps).sqrt(), 0.0)


def measure(x: Tensor, y: Tensor, ref: Tensor, ref_y: Tensor, settings: Icnn, distance: Any, *, same_set: bool) -> Points | Tensor:
    """What the score of `x` among `ref` is made of: `Points`, or of the original variant the score of each point."""
    if len(ref) < 3:
        raise ParameterError(f"ICNN: {len(ref)} points to find neighbours among: give 3 or more")
    k, shrunk = settings.k, settings.k + 2 >= len(ref)
    k = len(ref) - 2 if shrunk else k
    drop = settings.compat == "released"
    fetched = min(max(settings.fetched or 0, k + 1), len(ref) - (same_set or drop))
    distances, agree = neighbours(x, y, ref, ref_y, fetched, distance, same_set=same_set, drop_first=drop)
    if settings.variant == "original":
        return original(distances, agree, k, settings.eps, settings.use_omega)
    return modified(distances, agree, k, settings.eps, shrunk)


@torch.no_grad()
def icnn_score(
    x: Tensor, y: Tensor, ref: Tensor | None = None, ref_y: Tensor | None = None, *, distance: Any = None, **settings: Any
) -> IcnnScore:
    """The score of points `x` (n, d) with labels `y` (n,), their neighbours looked for among `ref` (m, d), by default themselves.

    `settings` are those of `Icnn`; `distance` is one of pytorch-metric-learning (by default Euclidean, not normalised). Raises
    `ParameterError`: fewer than three points, labels of another length, rows that are not finite.
    """
    same_set = ref is None
    ref, ref_y = (x, y) if ref is None or ref_y is None else (ref, ref_y)
    for rows, labels in ((x, y), (ref, ref_y)):
        if rows.ndim != 2 or labels.shape != rows.shape[:1]:
            raise ParameterError(f"ICNN: points of shape {tuple(rows.shape)} with labels of {tuple(labels.shape)}: give (n, d) and (n,)")
        if bad := int((~rows.isfinite()).any(1).sum()):
            raise ParameterError(f"ICNN: {bad} of {len(rows)} points are not finite numbers: remove them")
    found = measure(x, y, ref, ref_y, Icnn(**settings), distance or FlooredDistance(), same_set=same_set)
    names = torch.unique(y).tolist()
    if isinstance(found, Tensor):
        return IcnnScore(float(found.mean()), {name: float(found[y == name].mean()) for name in names}, found, {})
    parts = dict(zip(("same_class", "other_classes", "share"), map(float, found.parts()), strict=True))
    return IcnnScore(float(found.score()), {name: float(found.score(y == name)) for name in names}, found.each(), parts)
