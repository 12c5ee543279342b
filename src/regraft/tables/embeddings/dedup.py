"""Block deduplication: blocks of rows that are nearly alike are held once."""

import math
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge
from torch.nn.functional import embedding, pad

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, LargerTable, Mode, check_weight, uniform
from regraft.tables.memory import Memory, parse_budget

BANDS, WIDTH, QUANTILE = 90, 0.09, 0.75
CANDIDATES = 8  # blocks before a block, in its band, that it is compared with


class DedupEmbedding(CompressedEmbedding):
    r"""Row i is row :math:`s[\lfloor i / R\rfloor] R + i \bmod R` of the blocks that are held (Dedup, section 4).

    block : R, consecutive rows; for small tables 1 to 16. blocks : how many are held; the budget decides.
    similarity, tolerance, least_bands, sort, seed : of `from_table`. mode, padding_idx : as `nn.EmbeddingBag`.

    `from_table` finds blocks that are alike in a trained table; the result trains on, every row that shares a block with it. Without a
    table blocks share by the remainder of their number. Returns rows (m, d) of float32. Takes R d words a block and a word for each block
    of the table; `sort` takes n more.

    similarity : the share of coordinates, within `tolerance` of each other, from which blocks are alike. least_bands : how many of 90
        hashes (of width 0.09) two blocks must share to be compared; raise it where deduplication stops too early. sort : whether rows
        are brought near their like by their projection on the table's first direction before it is cut (ours).
    """

    name = "dedup"
    learns_from = True
    after_training = True
    paper = Paper("Serving Deep Learning Models with Deduplication from Relational Databases", "Zhou et al.", 2022, arxiv="2201.10442")
    summary = "blocks of rows that are nearly alike are held once"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        block: Annotated[int, Ge(1)] = 10_000,
        blocks: Annotated[int, Ge(1)] = 1,
        similarity: float = 0.7,
        tolerance: float = 0.01,
        least_bands: int = 0,
        sort: bool = False,
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.block, self.blocks, self.similarity, self.tolerance = block, blocks, similarity, tolerance
        self.least_bands, self.sort, self.seed = least_bands, sort, seed
        self.weight = uniform(blocks * block, embedding_dim, math.sqrt(1 / num_embeddings))
        self.register_buffer("slots", (torch.arange(-(-num_embeddings // block)) % blocks).to(torch.int32))
        if sort:
            self.register_buffer("order", torch.arange(num_embeddings, dtype=torch.int32))

    slots: torch.Tensor
    order: torch.Tensor

    @classmethod
    def words(cls, rows: int, dim: int, *, block: int = 10_000, blocks: int = 1, sort: bool = False, **_: Any) -> float:
        return blocks * block * dim - (-rows // block) + (rows if sort else 0)

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("blocks", 1, max(sizes))

    @classmethod
    @torch.no_grad()
    def from_table(cls, weight: torch.Tensor, budget: str | float, **settings: Any) -> Self:
        """Blocks of `weight` (n, d) mapped on others that they are like, until what is left fits `budget`.

        Where too few are alike it is larger than that, and a warning says how large: then lower `similarity`, raise `tolerance` or take
        smaller blocks. Raises `ParameterError` for a budget without room for a block.
        """
        check_weight(weight)
        rows, dim = weight.shape
        plan = cls.from_budget(rows, dim, budget, **settings)
        if plan.sort:
            centered = weight - weight.mean(0)
            first = torch.linalg.eigh(centered.double().T @ centered.double()).eigenvectors[:, -1]
            by_direction = torch.argsort(centered.double() @ first)
            weight = weight[by_direction]
        count = len(plan.slots)
        flat = pad(weight, (0, 0, 0, count * plan.block - rows)).view(count, -1)
        found = alike(flat, rows * dim - (count - 1) * plan.block * dim, plan.similarity, plan.tolerance, plan.least_bands, plan.seed)
        kept, slots = _mapped(found, _visited(flat), count - plan.blocks)
        table = cls.made(rows, dim, settings | {"blocks": len(kept)})
        table.weight.copy_(flat[kept].reshape(-1, dim))
        table.slots.copy_(slots)
        if plan.sort:
            table.order[by_direction] = torch.arange(rows, dtype=torch.int32)
        if table.memory().serving_words > parse_budget(budget, rows * dim):
            ratio = table.memory().ratio(rows, dim)
            warnings.warn(f"dedup: {count - len(kept)} of {count} blocks are like another: {ratio:.3g} of the table is left, not {budget}. "
                          "Lower similarity, raise tolerance or take smaller blocks", LargerTable, stacklevel=2)  # fmt: skip
        return table

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        if self.sort:
            ids = self.order[ids].long()
        slots = self.slots[torch.div(ids, self.block, rounding_mode="floor")].long()
        return embedding(slots * self.block + ids % self.block, self.weight)

    def memory(self) -> Memory:
        kept = {"blocks": self.weight.numel(), "map": self.slots.numel()}
        return Memory(kept | {"order": self.order.numel()} if self.sort else kept)


def alike(flat: torch.Tensor, last: int, similarity: float, tolerance: float, least_bands: int, seed: int) -> torch.Tensor:
    """For each block (count, values) the block before it, in the order of visits, that it is most like, or -1: (count,).

    last : how many values of the last block are no padding; it is like others, but nothing is like it where it is padded. Candidates share
    `least_bands` hashes, at least 1; in each band a block meets the nearest few before it.
    """
    if not 0 <= similarity <= 1 or tolerance < 0:
        raise ParameterError(f"dedup: similarity={similarity}, tolerance={tolerance}: a share of coordinates, and at least 0")
    count, size = flat.shape
    drawn = torch.Generator().manual_seed(seed)
    directions = torch.randn(size, BANDS, generator=drawn).to(flat.dtype)
    codes = torch.ceil((flat @ directions + torch.rand(BANDS, generator=drawn) * WIDTH) / WIDTH)
    turn = _visited(flat)
    best, found = torch.full((count,), -1.0, dtype=torch.float64), torch.full((count,), -1)
    padded = last < size
    for band in range(BANDS):
        ordered = turn[torch.argsort(codes[turn, band], stable=True)]  # alike in the band, and in turn among those
        for back in range(1, min(CANDIDATES, count - 1) + 1):
            here, there = ordered[back:], ordered[:-back]
            near = codes[here, band] == codes[there, band]
            if padded:
                near &= there != count - 1
            here, there = here[near], there[near]
            if least_bands > 1:
                enough = (codes[here] == codes[there]).sum(1) >= least_bands
                here, there = here[enough], there[enough]
            close = (flat[here] - flat[there]).abs() <= tolerance
            share = close.double().mean(1)
            if padded:
                share = torch.where(here == count - 1, close[:, :last].double().mean(1), share)
            better = (share >= similarity) & (share > best[here])
            best[here[better]], found[here[better]] = share[better], there[better]
    return found


def _visited(flat: torch.Tensor) -> torch.Tensor:
    """Blocks in the order of visits: by the upper quartile of their values."""
    place = math.ceil(QUANTILE * flat.shape[1])
    return torch.argsort(flat.kthvalue(max(1, place), dim=1).values, stable=True)


def _mapped(found: torch.Tensor, turn: torch.Tensor, needed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `needed` blocks that have a like one give way to it: blocks that are kept, and a place among them for each."""
    giving = turn[found[turn] >= 0][: max(needed, 0)]
    target = torch.arange(len(found))
    target[giving] = found[giving]
    while not torch.equal(target, further := target[target]):  # chains, halved each time
        target = further
    kept = torch.nonzero(target == torch.arange(len(found))).flatten()
    place = torch.full((len(found),), -1).index_copy(0, kept, torch.arange(len(kept)))
    return kept, place[target].to(torch.int32)
