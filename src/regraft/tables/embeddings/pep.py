"""PEP: thresholds that learn prune the table; what passes them learns again from its first weights."""

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

from regraft.method import Paper
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.embeddings.pruned import Pruned
from regraft.tables.stages import Quality, Stage

WEIGHT_DECAY = 1e-5  # of thresholds: what pushes them up where the loss says nothing yet
FASTER = 3  # Adam's steps get shorter as the decay does


class PepEmbedding(Pruned):
    r"""Values pass as :math:`\mathrm{sign}(v)\,\max(0, |v| - \sigma(t))` (section 3.2) until no more than the budget holds pass; then
    those learn anew from the weights that they began with, in a sparse format.

    kept : values in the end; the budget decides. Thresholds stand still once at most as many pass. Where more pass in the end, those that
        pass by most stay (ours).
    per : a threshold for each "value" of the table, each "row", each "column", or one for the "table".
    start : t at first. The code's -150 takes 150,000 steps at 0.001 to come to 0; the default is for short trainings.
    rate : of the thresholds, which Adam moves with a weight decay of 1e-5; by default 3 |t| by the steps of the stage, so that they come
        near 0 within it.
    seed : of the first weights, which are drawn again for the last stage instead of held; None draws one.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`\min(2k + n + 1, 3k)` words for k values; in the first stage n d and the thresholds.
    """

    name = "pep"
    paper = Paper("Learnable Embedding Sizes for Recommender Systems", "Liu et al.", 2021, arxiv="2101.07577")
    summary = "values that pass thresholds which learn, trained anew"
    stages: ClassVar[tuple[Stage, ...]] = (Stage("search"), Stage("retrain", fresh=True))

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        kept: Annotated[int, Ge(1)] = 1,
        per: Literal["value", "row", "column", "table"] = "value",
        start: Annotated[float, Lt(0)] = -15.0,
        rate: Annotated[float, Gt(0)] | None = None,
        seed: int | None = None,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, kept=kept, mode=mode, padding_idx=padding_idx)
        self.per, self.start, self.rate = per, start, rate
        self.seed = int(torch.randint(2**31, (1,))) if seed is None else seed
        with torch.no_grad():
            self.weight.copy_(self._first())
        shape = (num_embeddings if per in ("value", "row") else 1, embedding_dim if per in ("value", "column") else 1)
        self.limits = nn.Parameter(torch.full(shape, start))
        self._mover: torch.optim.Optimizer | None = None

    def _first(self) -> torch.Tensor:
        """The weights that training starts from, the same each time."""
        bound = self.num_embeddings**-0.5
        drawn = torch.empty(self.num_embeddings, self.embedding_dim)
        return drawn.uniform_(-bound, bound, generator=torch.Generator().manual_seed(self.seed))

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        limits = nn.functional.embedding(ids, self.limits) if len(self.limits) > 1 else self.limits
        found = super().rows(ids)
        return found.sign() * torch.relu(found.abs() - torch.sigmoid(limits))

    def served(self) -> torch.Tensor:
        weight = self.weight.detach()
        return weight.sign() * torch.relu(self._margins())

    @torch.no_grad()
    def _margins(self) -> torch.Tensor:
        return self.weight.abs() - torch.sigmoid(self.limits)

    def moved(self) -> list[nn.Parameter]:
        return [self.limits]

    def begin(self, stage: str, steps: int) -> None:
        self._mover = torch.optim.Adam([self.limits], lr=self.rate or -FASTER * self.start / steps, weight_decay=WEIGHT_DECAY)

    def after_step(self) -> None:
        if self._mover is not None and self._passing() > self.kept:
            self._mover.step()
        self.limits.grad = None

    def _passing(self) -> int:
        return int((self._margins() > 0).sum())

    def held(self) -> float:
        """Of all that passes as yet, so that the search ends with the weights that are small."""
        return self.words(self.num_embeddings, self.embedding_dim, kept=max(self.kept, self._passing()))

    def training_parts(self) -> dict[str, float]:
        return {"rows": self.weight.numel(), "thresholds": self.limits.numel()}

    @torch.no_grad()
    def advance(self, stage: str, quality: Quality) -> CompressedEmbedding:
        return self.sparse(self._first().to(self.weight.device), self._margins())

    @torch.no_grad()
    def export(self) -> CompressedEmbedding:
        return self.sparse(self.served(), self._margins())
