"""OptEmbed: which rows a table needs, and how wide those of each field must be, found by training and an evolution."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.memory import Memory
from regraft.tables.search.evolution import Candidate, Evolution, Found
from regraft.tables.search.surrogate import unit_step
from regraft.tables.stages import Quality, Stage
from regraft.tables.widths.blocks import Blocks
from regraft.tables.widths.by_field import field_of, fields_of, starts_of

Sought = Literal["both", "rows", "widths"]
Dropped = Literal["zero", "shared"]


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What a row's norm must exceed for the row to stay.

    Attributes
    ----------
    per : a threshold for each "field" or each "value". alpha : weight of the sum of exp(-t), which pushes them up. rate : of plain SGD,
        which moves them. norm : L1 or L2. narrow : whether the norm is that of the sampled width, times D / width ("all2" of the code).
    """

    per: Literal["field", "value"] = "field"
    alpha: float = 1e-4
    rate: float = 1e-4
    norm: Literal[1, 2] = 1
    narrow: bool = False


class OptEmbedEmbedding(CompressedEmbedding):
    r"""A supernet (section 3) whose rows pass by :math:`S(\lVert v\rVert_1 - t_f)`, each cut to a width drawn for it; then a search for one
    width a field, by the quality of the model as it stands; then a training anew, from the first weights, of the rows and widths found.

    share : of the plain table's words that it may take in the end; the budget decides. Where what the thresholds leave at a candidate's
        widths is more, the rows nearest to their thresholds go (ours); one row of each field stays. Rows that no batch met go too.
    fields : how many ids each field has; None is one field of all. blocks : (rows, width) of each field, once they are found.
    search : for rows, widths, or both. thresholds, evolution : how. dropped : what ids without a row get: zeros, or a row that those of a
        field share. seed : of the first weights, which are drawn again for the last stage instead of held; None draws one.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32, zeros beyond a field's width. Takes :math:`\sum_f r_f w_f` words, 2 words for 32 ids that say who has
    a row, and a word a field; training the supernet n d and a byte a row.
    """

    name = "opt-embed"
    layout = "fused"
    paper = Paper("OptEmbed: Learning Optimal Embedding Table for Click-through Rate Prediction", "Lyu et al.", 2022, arxiv="2208.04482")
    summary = "rows that pass a learned threshold, and a searched width a field"
    stages: ClassVar[tuple[Stage, ...]] = (Stage("supernet"), Stage("retrain", fresh=True))

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        share: float = 1.0,
        fields: Sequence[int] | None = None,
        blocks: Sequence[tuple[int, int]] | None = None,
        search: Sought = "both",
        thresholds: Thresholds | None = None,
        evolution: Evolution | None = None,
        dropped: Dropped = "zero",
        seed: int | None = None,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.sizes = fields_of(self.name, fields, num_embeddings)
        self.fields = None if fields is None else self.sizes
        self.share, self.search, self.dropped = share, search, dropped
        self.thresholds, self.evolution = thresholds or Thresholds(), evolution or Evolution()
        self.seed = int(torch.randint(2**31, (1,))) if seed is None else seed
        self.found: Found | None = None
        self._plan: tuple[torch.Tensor, torch.Tensor] | None = None  # rows that stay (n,), and the width of each field
        self.register_buffer("starts", starts_of(self.sizes), persistent=False)
        self.blocks = None if blocks is None else tuple((int(rows), int(width)) for rows, width in blocks)
        if self.blocks is not None:
            self.stages = self.stages[1:]  # type: ignore[misc]  # of this very table
            self.kept = Blocks(self.sizes, embedding_dim, self.blocks, shared=dropped == "shared")
            return
        self.weight = nn.Parameter(self._first())
        self.register_buffer("met", torch.zeros(num_embeddings, dtype=torch.bool))
        if search != "widths":
            count = len(self.sizes) if self.thresholds.per == "field" else num_embeddings
            self.limits = nn.Parameter(torch.zeros(count))

    starts: torch.Tensor
    met: torch.Tensor

    def _first(self) -> torch.Tensor:
        """The weights that training starts from, the same each time: Xavier-uniform over the whole table."""
        bound = math.sqrt(6 / (self.num_embeddings + self.embedding_dim))
        drawn = torch.empty(self.num_embeddings, self.embedding_dim)
        return drawn.uniform_(-bound, bound, generator=torch.Generator().manual_seed(self.seed))

    @classmethod
    def words(
        cls,
        rows: int,
        dim: int,
        *,
        share: float = 1.0,
        fields: Sequence[int] | None = None,
        blocks: Sequence[tuple[int, int]] | None = None,
        dropped: Dropped = "zero",
        **_: Any,
    ) -> float:
        """Of blocks that are found; before, the most that they will take: a share, less than the plain table, not below the least."""
        sizes = fields_of(cls.name, fields, rows)
        if blocks is not None:
            return Blocks.words(rows, blocks)
        if not 0 <= share <= 1:
            raise ParameterError(f"opt-embed: share={share}: give a share of the plain table's words, in (0, 1]")
        least = Blocks.words(rows, [(1 + (dropped == "shared"), 1)] * len(sizes))
        return max(least, min(math.floor(share * rows * dim), rows * dim - 1))

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("share", 0.0, 1.0, whole=False)

    # the supernet

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        if self.blocks is not None:
            return self.kept.rows(ids)
        found, field = nn.functional.embedding(ids, self.weight), field_of(ids, self.starts)
        columns = torch.arange(self.embedding_dim, device=ids.device)
        if self._plan is not None:
            stays, widths = self._plan
            return found * (stays[ids].unsqueeze(1) & (columns < widths[field].unsqueeze(1)))
        prefix = None
        if self.training:
            self.met[ids] = True
            if self.search != "rows":  # a width for each sample and each field
                widths = torch.randint(1, self.embedding_dim + 1, ids.shape, device=ids.device)
                prefix = (columns < widths.unsqueeze(1)).to(found.dtype)
        if self.search != "widths":
            norms = self._norms(found) if prefix is None or not self.thresholds.narrow else self._norms(found * prefix) / prefix.mean(1)
            found = found * unit_step(norms - self._limits(ids, field)).unsqueeze(1)
        return found if prefix is None else found * prefix

    def _norms(self, rows: torch.Tensor) -> torch.Tensor:
        norms: torch.Tensor = torch.linalg.vector_norm(rows, self.thresholds.norm, dim=1)
        return norms

    def _limits(self, ids: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
        return self.limits[field if self.thresholds.per == "field" else ids]

    def extra_loss(self) -> torch.Tensor | float:
        if self.blocks is not None or self.search == "widths":
            return 0.0
        return self.thresholds.alpha * torch.exp(-self.limits).sum()

    def moved(self) -> list[nn.Parameter]:
        return [] if self.blocks is not None or self.search == "widths" else [self.limits]

    @torch.no_grad()
    def after_step(self) -> None:
        for limits in self.moved():
            if limits.grad is not None:
                limits.sub_(limits.grad, alpha=self.thresholds.rate)
                limits.grad = None

    # the search

    def advance(self, stage: str, quality: Quality) -> "CompressedEmbedding":
        if self.blocks is not None:
            return self
        with torch.no_grad():
            order, alive = self._ranked()
            widths = (self.embedding_dim,) * len(self.sizes)
            if self.search != "rows":
                self.found = self._evolved(order, alive, quality)
                widths = self.found.candidate
            table = self._compact(self._stays(self._within(widths), order, alive), self._within(widths), self._first())
        table.found = self.found
        return table

    def _evolved(self, order: torch.Tensor, alive: int, quality: Quality) -> Found:
        def score(candidate: Candidate) -> tuple[float, float]:
            return self.scored(candidate, order, alive, quality)

        return self.evolution.search(score, len(self.sizes), self.embedding_dim, torch.Generator().manual_seed(self.seed))

    def scored(self, candidate: Candidate, order: torch.Tensor, alive: int, quality: Quality) -> tuple[float, float]:
        """Quality of the model with the rows and widths that `candidate` comes to, and how many numbers those are."""
        widths = self._within(candidate)
        stays = self._stays(widths, order, alive)
        self._plan = (stays, torch.tensor(widths, device=stays.device))
        rows = torch.bincount(field_of(torch.nonzero(stays).squeeze(1), self.starts), minlength=len(self.sizes))
        try:
            return quality(), float((rows * self._plan[1]).sum())
        finally:
            self._plan = None

    def _ranked(self) -> tuple[torch.Tensor, int]:
        """All rows, the best of each field first, then by how far they are above their thresholds; and how many of them are above."""
        ids = torch.arange(self.num_embeddings, device=self.weight.device)
        margins = self._norms(self.weight)
        if self.search != "widths":
            margins = margins - self._limits(ids, field_of(ids, self.starts))
        met = self.met if self.met.any() else torch.ones_like(self.met)
        passes = met & ((margins > 0) | (self.search == "widths"))
        margins = torch.where(met, margins, -torch.inf)
        best = torch.stack([start + part.argmax() for start, part in zip(self.starts, torch.split(margins, list(self.sizes)), strict=True)])
        first = torch.zeros_like(passes).index_fill(0, best, True)
        order = torch.argsort(margins.masked_fill(~passes, -torch.inf).masked_fill(first, torch.inf), descending=True, stable=True)
        return order, int((passes | first).sum())

    def _room(self) -> float:
        """Words for rows, of which each field has at least one."""
        taken = self.words(self.num_embeddings, self.embedding_dim, share=self.share, fields=self.fields, dropped=self.dropped)
        return taken - Blocks.words(self.num_embeddings, [(0, 0)] * len(self.sizes))

    def _within(self, widths: Candidate) -> Candidate:
        """`widths`, the widest cut as far as the rows that must stay ask for."""
        room, each, most = self._room(), 1 + (self.dropped == "shared"), max(widths)
        while each * sum(min(width, most) for width in widths) > room:
            most -= 1
        return tuple(min(width, most) for width in widths)

    def _stays(self, widths: Candidate, order: torch.Tensor, alive: int) -> torch.Tensor:
        """Which rows (n,) stay at `widths`: as many of those above their thresholds as there is room for."""
        taken = order[:alive]
        costs = torch.tensor(widths, device=order.device)[field_of(taken, self.starts)]
        room = self._room() - (sum(widths) if self.dropped == "shared" else 0)
        stays = torch.zeros(self.num_embeddings, dtype=torch.bool, device=order.device)
        return stays.index_fill(0, taken[costs.cumsum(0) <= room], True)

    # what is found

    def _compact(self, stays: torch.Tensor, widths: Candidate, weight: torch.Tensor) -> "OptEmbedEmbedding":
        more = int(self.dropped == "shared")
        blocks = [(int(part.sum()) + more, width) for part, width in zip(torch.split(stays, list(self.sizes)), widths, strict=True)]
        given = {name: getattr(self, name) for name in self.config()} | {"blocks": blocks}
        table = OptEmbedEmbedding(**given).to(stays.device)
        table.kept.fill(stays, weight.to(stays.device))
        return table.train(self.training)

    @torch.no_grad()
    def export(self) -> "OptEmbedEmbedding":
        """Rows and widths that are found; without a search, all widths, and the rows above their thresholds that there is room for."""
        if self.blocks is not None:
            return self
        order, alive = self._ranked()
        widths = self._within((self.embedding_dim,) * len(self.sizes))
        return self._compact(self._stays(widths, order, alive), widths, self.weight)

    def config(self) -> dict[str, Any]:
        return super().config() | {name: dataclasses.asdict(getattr(self, name)) for name in ("thresholds", "evolution")}

    def memory(self) -> Memory:
        """As it serves, before the search the most that it will take; in the supernet all rows, thresholds, and which rows were met."""
        if self.blocks is not None:
            return Memory(self.kept.memory())
        limit = self.words(self.num_embeddings, self.embedding_dim, share=self.share, fields=self.fields, dropped=self.dropped)
        held = {"rows": self.weight.numel(), "thresholds": sum(one.numel() for one in self.moved()), "met": self.num_embeddings / 4}
        return Memory({"at most": limit}, held)
