r"""Losses of an episode as pytorch-metric-learning has them: ``loss(queries, labels, ref_emb=support, ref_labels=support_labels)``.

Without `ref_emb` a batch is its own support: a class's prototype is then the mean of its other points, and a point with no other of its
class is left out. Distances in both new losses are not squared; in the logits of the cross-entropy they are.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from regraft.bias.episodes.distances import FlooredDistance, how_far
from regraft.bias.episodes.icnn import Icnn, Variant, measure
from regraft.errors import ParameterError

LEAST = 1e-6  # of the score, before its logarithm
TERMS = ("cross", "prototriplet", "suppicnn", "queryicnn", "fullicnn")
CONFIGURATIONS: dict[int, tuple[str, ...]] = {  # as the authors' scripts number them; 5 and 6 are 2 and 4 with prototypes as neighbours
    1: ("cross", "suppicnn"),
    2: ("cross", "suppicnn", "queryicnn"),
    3: ("suppicnn",),
    4: ("suppicnn", "queryicnn"),
    5: ("cross", "suppicnn", "queryicnn"),
    6: ("suppicnn", "queryicnn"),
    7: ("cross", "fullicnn"),
    8: ("fullicnn",),
    9: ("cross", "prototriplet"),
    10: ("prototriplet",),
    12: ("cross", "prototriplet", "fullicnn"),
}


def prototypes(support: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(classes, d) means of each class's support (n, d), and (classes,) their labels, ascending."""
    names, which = torch.unique(labels, return_inverse=True)
    marks = one_hot(which, len(names)).to(support.dtype)
    return marks.T @ support / marks.sum(0)[:, None], names


class _Prototypical(BaseMetricLossFunction, ABC):  # type: ignore[misc]
    """A loss of distances from points to prototypes."""

    def get_default_distance(self) -> Any:
        return FlooredDistance()

    def compute_loss(self, embeddings: Tensor, labels: Tensor, indices_tuple: Any, ref_emb: Tensor, ref_labels: Tensor) -> Any:
        _no_tuples(indices_tuple)
        centers, names = prototypes(ref_emb, ref_labels)
        if len(names) < 2:
            raise ParameterError(f"an episode of {len(names)} class: prototypes of two or more are needed")
        at = torch.searchsorted(names, labels).clamp_max(len(names) - 1)
        if bool((names[at] != labels).any()):
            raise ParameterError("a query's class has no support: give support for each class of the queries")
        away = self.away(embeddings, centers)
        if ref_emb is embeddings:
            away, at = self._without_itself(embeddings, away, at, centers)
        if not len(at):
            return self.zero_losses()
        value = self.per_point(away, at).mean()
        return {"loss": {"losses": value, "indices": None, "reduction_type": "already_reduced"}}

    def _without_itself(self, x: Tensor, away: Tensor, at: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Distances with each point taken out of its own prototype, and only points that are not alone in their class."""
        size = torch.bincount(at, minlength=len(centers))[at]
        kept = size > 1
        x, at, size, away = x[kept], at[kept], size[kept, None], away[kept]
        own = (centers[at] * size - x) / (size - 1)
        mark = one_hot(at, len(centers)).bool()
        return torch.where(mark, self.away_pairwise(x, own)[:, None], away), at

    def away(self, x: Tensor, centers: Tensor) -> Tensor:
        return how_far(self.distance, x, centers)

    def away_pairwise(self, x: Tensor, y: Tensor) -> Tensor:
        if self.distance.normalize_embeddings:
            x, y = self.distance.normalize(x), self.distance.normalize(y)
        found: Tensor = self.distance.pairwise_distance(x, y)
        return 1 - found if self.distance.is_inverted else found

    @abstractmethod
    def per_point(self, away: Tensor, at: Tensor) -> Tensor:
        """(n,) from (n, classes) distances and (n,) the place of each point's class."""


class ProtoTripletLoss(_Prototypical):
    """max(0, d(q, P_y) - min over other classes of d(q, P_c) + margin), mean over queries: the hardest wrong prototype alone counts.

    `margin` 0.5 is that of the authors' code (INFERRED for the paper). `distance` : any of pytorch-metric-learning.
    """

    def __init__(self, margin: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin = margin
        self.add_to_recordable_attributes(list_of_names=["margin"], is_stat=False)

    def per_point(self, away: Tensor, at: Tensor) -> Tensor:
        own = away.gather(1, at[:, None])[:, 0]
        wrong = away.masked_fill(one_hot(at, away.shape[1]).bool(), torch.inf).amin(1)
        return (own - wrong + self.margin).clamp_min(0)


class ProtoNetLoss(_Prototypical):
    """Cross-entropy of -d^2 / temperature over prototypes: the prototypical network, Euclidean."""

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    def away(self, x: Tensor, centers: Tensor) -> Tensor:
        return squared(x, centers)

    def away_pairwise(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().sum(-1)

    def per_point(self, away: Tensor, at: Tensor) -> Tensor:
        return cross_entropy(-away / self.temperature, at, reduction="none")


def squared(x: Tensor, y: Tensor) -> Tensor:
    """(n, m) squared Euclidean distances, differentiable everywhere."""
    return (x[:, None] - y).square().sum(-1)


class ICNNLoss(BaseMetricLossFunction):  # type: ignore[misc]
    """-ln of the ICNN score (`regraft.bias.episodes.icnn`) of points among `ref_emb`, by default among themselves."""

    def __init__(
        self,
        k: int = 4,
        fetched: int | None = None,
        variant: Variant = "modified",
        use_omega: bool = False,
        compat: Literal["paper", "released"] = "paper",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = Icnn(k=k, fetched=fetched, variant=variant, use_omega=use_omega, compat=compat)

    def get_default_distance(self) -> Any:
        return FlooredDistance()

    def compute_loss(self, embeddings: Tensor, labels: Tensor, indices_tuple: Any, ref_emb: Tensor, ref_labels: Tensor) -> Any:
        _no_tuples(indices_tuple)
        same = ref_emb is embeddings
        found = measure(embeddings, labels, ref_emb, ref_labels, self.settings, self.distance, same_set=same)
        score = found.mean() if isinstance(found, Tensor) else found.score()
        return {"loss": {"losses": -score.clamp_min(LEAST).log(), "indices": None, "reduction_type": "already_reduced"}}


class EpisodeLoss(BaseMetricLossFunction):  # type: ignore[misc]
    """The mean of the chosen `terms` of an episode: (sum of terms) / (number of terms).

    cross : over prototypes. prototriplet. suppicnn : ICNN of the support among itself; with one shot it has no neighbour of its own class
    and is left out, but for compat="released". queryicnn : of queries among the support, or among prototypes with `query_protos`.
    fullicnn : of all points among all, which looks at as many neighbours as a class has points.
    """

    def __init__(
        self,
        terms: tuple[str, ...] = CONFIGURATIONS[9],
        *,
        margin: float = 0.5,
        temperature: float = 1.0,
        k: int = 4,
        query_protos: bool = False,
        compat: Literal["paper", "released"] = "paper",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not terms or set(terms) - set(TERMS):
            raise ParameterError(f"terms {','.join(terms) or '(none)'}: choose from {', '.join(TERMS)}")
        self.terms, self.k, self.query_protos, self.compat = tuple(terms), k, query_protos, compat
        self.cross, self.triplet = ProtoNetLoss(temperature), ProtoTripletLoss(margin, distance=self.distance)

    def get_default_distance(self) -> Any:
        return FlooredDistance()

    def compute_loss(self, embeddings: Tensor, labels: Tensor, indices_tuple: Any, ref_emb: Tensor, ref_labels: Tensor) -> Any:
        _no_tuples(indices_tuple)
        if ref_emb is embeddings:
            raise ParameterError("an episode needs its support: give ref_emb and ref_labels")
        values = [self.term(name, embeddings, labels, ref_emb, ref_labels) for name in self.terms]
        found = [one for one in values if one is not None]
        if not found:
            raise ParameterError("suppicnn of one-shot episodes has nothing to compare: add a term, or give more shots")
        return {"loss": {"losses": torch.stack(found).mean(), "indices": None, "reduction_type": "already_reduced"}}

    def term(self, name: str, query: Tensor, y: Tensor, support: Tensor, support_y: Tensor) -> Tensor | None:
        """One term, or None where an episode has none."""
        if name in ("cross", "prototriplet"):
            loss = self.cross if name == "cross" else self.triplet
            found: Tensor = loss(query, y, ref_emb=support, ref_labels=support_y)
            return found
        classes = torch.unique(support_y)
        if name == "suppicnn":
            if len(classes) == len(support_y) and self.compat == "paper":
                return None
            return self.icnn(support, support_y)
        if name == "queryicnn":
            ref, ref_y = prototypes(support, support_y) if self.query_protos else (support, support_y)
            return self.icnn(query, y, ref, ref_y)
        points, labels = torch.cat([support, query]), torch.cat([support_y, y])
        each = len(labels) // len(classes)
        return self.icnn(points, labels, fetched=each if each > self.k else None)

    def icnn(self, x: Tensor, y: Tensor, ref: Tensor | None = None, ref_y: Tensor | None = None, fetched: int | None = None) -> Tensor:
        loss = ICNNLoss(self.k, fetched, compat=self.compat, distance=self.distance)
        found: Tensor = loss(x, y, ref_emb=ref, ref_labels=ref_y)
        return found


def _no_tuples(indices_tuple: Any) -> None:
    if indices_tuple is not None:
        raise ParameterError("this loss takes whole classes, not pairs or triplets of a miner: leave indices_tuple out")
