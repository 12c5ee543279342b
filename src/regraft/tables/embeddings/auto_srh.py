"""AutoSrh: how much each column counts for ids of like frequency is learned on validation rows, and says which values stay."""

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.embeddings.pruned import Pruned
from regraft.tables.stages import Quality, Stage

TINY = 1e-8


class AutoSrhEmbedding(Pruned):
    r"""Rows are :math:`\alpha_{g(i)} \circ E_i`, g being the group of ids that occur about as often. After a training with all at 1,
    :math:`\alpha` learns on validation batches, E on training batches, and the rest of the model stands still; then
    :math:`\alpha \circ E` is pruned by magnitude over the whole table, and what is left learns on with the model.

    counts : (n,), how often each id occurs in training. groups : how many, of about as many ids; ids with equal counts share theirs.
    kept : values in the end; the budget decides. penalty : of :math:`\lVert\alpha\rVert_1` in the search. The gradient of each group's
        :math:`\alpha` is divided by its mean magnitude, and :math:`\alpha` stays in [0, 1].
    pruned : "before" the last stage, as the paper has it, or "after" it, as the bench's code does: then nothing makes up for the cut.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`\min(2k + n + 1, 3k)` words for k values; in training n d, and n/4 for groups.
    """

    name = "auto-srh"
    counts_rows = True
    paper = Paper("AutoSrh: An Embedding Dimensionality Search Framework for Tabular Data Prediction", "Kong et al.", 2022,
                  url="https://doi.org/10.1109/TKDE.2022.3186387")  # fmt: skip
    summary = "columns that count less for rare ids, learned on validation rows, then pruned"
    stages: ClassVar[tuple[Stage, ...]] = (Stage("pretrain", 0.5), Stage("search", 0.5, searches=True, still=True), Stage("retrain", 0.5))
    group: torch.Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        counts: torch.Tensor,
        kept: Annotated[int, Ge(1)] = 1,
        groups: Annotated[int, Ge(1)] = 6,
        penalty: Annotated[float, Ge(0)] = 1e-5,
        pruned: Literal["before", "after"] = "before",
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, kept=kept, mode=mode, padding_idx=padding_idx)
        if len(counts) != num_embeddings:
            raise ParameterError(f"auto-srh: {len(counts)} counts for a table of {num_embeddings} rows")
        self.groups, self.penalty, self.pruned = groups, penalty, pruned
        self.register_buffer("group", groups_of(counts, groups).to(torch.uint8 if groups <= 256 else torch.int32))
        self.scales = nn.Parameter(torch.ones(groups, embedding_dim))
        self.scales.register_hook(_normalised)  # type: ignore[no-untyped-call]
        self._searching = False

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return super().rows(ids) * nn.functional.embedding(self.group[ids].long(), self._within())

    def _within(self) -> torch.Tensor:
        """Scales; in evaluation also those of a step that none has followed."""
        return self.scales if self.training else self.scales.clamp(0, 1)

    def served(self) -> torch.Tensor:
        return self.weight.detach() * self.scales.detach().clamp(0, 1)[self.group.long()]

    def begin(self, stage: str, steps: int) -> None:
        self._searching = stage == "search"
        self._clip()

    def extra_loss(self) -> torch.Tensor | float:
        return self.penalty * self.scales.abs().sum() if self._searching else 0.0

    def after_step(self) -> None:
        self._clip()

    @torch.no_grad()
    def _clip(self) -> None:
        self.scales.clamp_(0, 1)

    def architecture(self) -> list[nn.Parameter]:
        return [self.scales]

    def advance(self, stage: str, quality: Quality) -> CompressedEmbedding:
        self._clip()
        return self.export() if stage == "retrain" or (stage == "search" and self.pruned == "before") else self

    def training_parts(self) -> dict[str, float]:
        return {"rows": self.weight.numel(), "scales": self.scales.numel(), "groups": self.group.numel() * self.group.element_size() / 4}


def groups_of(counts: torch.Tensor, groups: int) -> torch.Tensor:
    """The group (n,) of each id, the most frequent first: about n / groups ids in each, those of one count together."""
    _, which, many = torch.unique(counts.cpu(), return_inverse=True, return_counts=True)
    before = many.flip(0).cumsum(0).flip(0) - many  # ids with a greater count
    middle = before + torch.div(many - 1, 2, rounding_mode="floor")
    return torch.div(middle * groups, len(counts), rounding_mode="floor")[which]


def _normalised(gradient: torch.Tensor) -> torch.Tensor:
    return gradient / (gradient.abs().mean(1, keepdim=True) + TINY)
