r"""Losses over all sizes of an encoder at once (SRL): every size at every step, from one forward pass.

Enters: features of columns of texts. Leaves: the sum over sizes (n, d) of the loss of the vectors after layer n, cut to d dimensions, and
of a divergence from the full size. `terms` gives the summands apart.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize, softmax

from regraft.errors import ParameterError
from regraft.text.sizes.exits import exits, shape_of
from regraft.text.sizes.size import Size

Exits = dict[int, list[Tensor]]


class SizesLoss(nn.Module):
    """Base: which sizes take part in a step, with which weights.

    Parameters
    ----------
    sizes : (layers, dimensions), in any order; the full size must be among them. weights : one a size, in the same order; 1 by default.
    per_step : this many sizes beside the full one, drawn anew at each step; 0 for all. chunk : see `exits`.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        sizes: Sequence[Size],
        *,
        weights: Sequence[float] | None = None,
        detach: bool = True,
        per_step: int = 0,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.model, self.full = model, shape_of(model)
        if self.full not in sizes:
            raise ParameterError(f"sizes: the full size {self.full[0]},{self.full[1]} must be among them, the others learn from it")
        if weights is not None and len(weights) != len(sizes):
            raise ParameterError(f"{len(weights)} weights for {len(sizes)} sizes (the full one included): give one a size")
        self.weights = dict(zip(sizes, weights or [1.0] * len(sizes), strict=True))
        self.detach, self.per_step, self.chunk = detach, per_step, chunk

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor) -> Tensor:
        sizes = self.drawn()
        found = exits(self.model, sentence_features, sorted({layers for layers, _ in sizes}), self.chunk)
        first, *others = self.terms(found, labels, sizes).values()
        return sum(others, first)

    def drawn(self) -> list[Size]:
        """The full size first, then the others, or `per_step` of them; a layer keeps the dimensions that it was listed with."""
        others = sorted(size for size in self.weights if size != self.full)
        if 0 < self.per_step < len(others):
            others = [others[at] for at in torch.randperm(len(others))[: self.per_step].tolist()]
        return [self.full, *others]

    def terms(self, found: Exits, labels: Tensor, sizes: Sequence[Size] | None = None) -> dict[Size, Tensor]:
        """The summand of each size, weighted."""
        return {size: self.weights[size] * self.term(found, labels, size) for size in sizes or self.drawn()}

    @abstractmethod
    def term(self, found: Exits, labels: Tensor, size: Size) -> Tensor:
        """The summand of one size."""


class SimilarityLoss(SizesLoss):
    r"""A loss of sentence-transformers on cut vectors of unit length, and a divergence over their coordinates.

    :math:`\ell(e^{(n)}_{:d} / \lVert e^{(n)}_{:d} \rVert) + 0.3 \lambda\, KL(\sigma(e^{(N)}_{:d}) \Vert \sigma(e^{(n)}_{:d}))`,
    the second part for all but the full size, with :math:`\sigma` the softmax over coordinates as they are, averaged over all
    texts of the batch.

    Parameters
    ----------
    base : a loss with `compute_loss_from_embeddings` (`CoSENTLoss`, `MultipleNegativesRankingLoss`, ...). kl_weight : lambda. kl_scale :
        0.3, called a temperature in the released code, where it only multiplies. temperature : of both softmaxes.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        sizes: Sequence[Size],
        base: Any,
        *,
        kl_weight: float = 1.0,
        kl_scale: float = 0.3,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(model, sizes, **options)
        if not hasattr(base, "compute_loss_from_embeddings"):
            raise ParameterError(f"{type(base).__name__} cannot be computed from vectors that are there: choose another base loss")
        self.base, self.base_loss = base, base.compute_loss_from_embeddings
        self.kl_weight, self.kl_scale, self.temperature = kl_weight, kl_scale, temperature

    def term(self, found: Exits, labels: Tensor, size: Size) -> Tensor:
        layer, width = size
        columns = [one[:, :width] for one in found[layer]]
        value: Tensor = self.base_loss([normalize(one, p=2, dim=1) for one in columns], labels)
        weight = self.kl_scale * self.kl_weight
        return value if size == self.full or weight == 0 else value + weight * self.divergence(found, size)

    def divergence(self, found: Exits, size: Size) -> Tensor:
        """KL of the full size's first coordinates from those of `size`."""
        layer, width = size
        teacher, student = (torch.cat(found[n])[:, :width] / self.temperature for n in (self.full[0], layer))
        return divergence(teacher.detach() if self.detach else teacher, student)


class RetrievalLoss(SizesLoss):
    r"""Softmax over all passages of the batch by inner product, and a divergence over their scores.

    With :math:`S = q^{(n)}_{:d} \cdot p^{(n)}_{:d}` over positives and negatives: cross entropy of :math:`S / \tau`, and
    :math:`\lambda\, KL(\sigma(S^{(N, D)} / \tau) \Vert \sigma(S^{(n, d)} / \tau))` for all but the full size. Vectors are not normalized.

    Parameters
    ----------
    kl_weight : lambda. temperature : tau.
    """

    def __init__(
        self, model: SentenceTransformer, sizes: Sequence[Size], *, kl_weight: float = 1.0, temperature: float = 1.0, **options: Any
    ) -> None:
        super().__init__(model, sizes, **options)
        self.kl_weight, self.temperature = kl_weight, temperature

    def term(self, found: Exits, labels: Tensor, size: Size) -> Tensor:
        scores = self.scores(found, size)
        value = cross_entropy(scores, torch.arange(len(scores), device=scores.device))
        return value if size == self.full or self.kl_weight == 0 else value + self.kl_weight * self.divergence(found, size)

    def divergence(self, found: Exits, size: Size) -> Tensor:
        """KL of the full size's scores from those of `size`."""
        teacher = self.scores(found, self.full)
        return divergence(teacher.detach() if self.detach else teacher, self.scores(found, size))

    def scores(self, found: Exits, size: Size) -> Tensor:
        """(queries, passages) over the temperature; passage i is query i's own, negatives follow."""
        layer, width = size
        queries, *passages = (one[:, :width] for one in found[layer])
        if not passages:
            raise ParameterError("texts alone: retrieval learns from queries beside passages (anchor, positive)")
        return queries @ torch.cat(passages).T / self.temperature


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over the last dimension, averaged over rows, in float32."""
    return kl_div(log_softmax(student.float(), dim=-1), softmax(teacher.float(), dim=-1), reduction="batchmean")
