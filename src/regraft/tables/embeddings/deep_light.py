"""DeepLight: values are pruned while the table trains, ever more of them, and may grow again."""

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt

from regraft.method import Paper
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.embeddings.pruned import Pruned
from regraft.tables.stages import Quality, Stage

BASE, NEAR = 0.99, 1e-3  # of the rate; how near to the aim counts as there
AIM_AT = 0.6  # of the steps of the stage


class DeepLightEmbedding(Pruned):
    r"""After a warm-up, whose best weights and moments go on, the values of least magnitude of the whole table become zero again and again:
    at step t a share :math:`P\,(1 - 0.99^{t/c})` of them (section 3.3), P being what the budget leaves no room for. There is no mask.

    kept : values in the end; the budget decides. every : steps between prunings; in evaluation what the last pruning would have made zero
        is zero in between too.
    decay : c; 100 in the paper, which takes 68,730 steps to within a thousandth of P. By default so that this is at 0.6 of the stage.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`\min(2k + n + 1, 3k)` words for k values, n d in training. The paper prunes the model's
    other weights too; this does not.
    """

    name = "deep-light"
    paper = Paper("DeepLight: Deep Lightweight Feature Interactions for Accelerating CTR Predictions in Ad Serving", "Deng et al.", 2021,
                  arxiv="2002.06987")  # fmt: skip
    summary = "values of least magnitude pruned step by step in training"
    stages: ClassVar[tuple[Stage, ...]] = (Stage("warm-up", 0.5), Stage("prune", carries=True))
    threshold: torch.Tensor
    count: torch.Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        kept: Annotated[int, Ge(1)] = 1,
        every: Annotated[int, Ge(1)] = 10,
        decay: Annotated[float, Gt(0)] | None = None,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, kept=kept, mode=mode, padding_idx=padding_idx)
        self.every, self.decay = every, decay
        self._decay: float | None = None  # while it prunes
        self.register_buffer("threshold", torch.zeros(1))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        found = super().rows(ids)
        return found if self.training else found * (found.abs() >= self.threshold)

    def begin(self, stage: str, steps: int) -> None:
        self._decay = None
        if stage == "prune":
            self._decay = self.decay or AIM_AT * steps * math.log(BASE) / math.log(NEAR)

    @torch.no_grad()
    def after_step(self) -> None:
        if self._decay is None:
            return
        self.count += 1
        if int(self.count) % self.every == 0:
            zeros = self.weight.numel() - self.left()
            if zeros:
                sizes = self.weight.abs()
                self.threshold.copy_(torch.kthvalue(sizes.flatten(), min(zeros + 1, sizes.numel())).values)
                self.weight.masked_fill_(sizes < self.threshold, 0)

    def left(self) -> int:
        """Values that the last pruning left: in the end `kept`."""
        if self._decay is None:
            return self.weight.numel() if int(self.count) == 0 else self.kept
        step = int(self.count) // self.every * self.every
        gone = BASE ** (step / self._decay)
        return self.kept if gone <= NEAR else math.ceil(self.kept + (self.weight.numel() - self.kept) * gone)

    def held(self) -> float:
        return self.words(self.num_embeddings, self.embedding_dim, kept=self.left())

    def advance(self, stage: str, quality: Quality) -> CompressedEmbedding:
        return self.export() if stage == "prune" else self
