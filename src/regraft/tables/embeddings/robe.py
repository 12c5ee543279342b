"""Random offset blocks: every row is a few blocks of one flat array, at places that a hash decides."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode, in_blocks
from regraft.tables.memory import Memory

PRIME = 2_038_074_743  # P; a constant below it times an id below it, and two more terms, stay within int64


class RobeEmbedding(CompressedEmbedding):
    r"""Coordinate :math:`j` of row :math:`i` is :math:`\pm W[((B i + C \lfloor j/z\rfloor + D) \bmod P + j \bmod z) \bmod |W|]` (ROBE-z).

    share : of the words of a plain table, of which the array W gets the floor; the budget decides.
    block : z, coordinates that lie beside each other in W; divides d. None takes d, one block a row; 1 is HashedNet.
    signs : whether a second hash of id and coordinate turns values round.
    compat : "paper" adds j mod z after the remainder by P, "released" before it, as the bench does.
    seed : of the constants B, C, D. mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. One array for all fields: their ids are offset, which stands for the term A f. Takes :math:`|W|` words,
    which is never less than a block. Raises `ParameterError` for P ids or more.
    """

    name = "robe"
    layout = "fused"
    paper = Paper("Random Offset Block Embedding Array (ROBE) for CriteoTB Benchmark MLPerf DLRM Model", "Desai et al.", 2021,
                  arxiv="2108.02191")  # fmt: skip
    summary = "a row is a few blocks of one array, at places that a hash decides"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        share: float = 1.0,
        block: Annotated[int, Ge(1)] | None = None,
        signs: bool = True,
        compat: Literal["paper", "released"] = "paper",
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        if num_embeddings >= PRIME:
            raise ParameterError(f"robe: {num_embeddings} ids: its hash needs fewer than {PRIME}")
        self.share, self.block, self.signs, self.compat, self.seed = share, block, signs, compat, seed
        bound = math.sqrt(1 / num_embeddings)
        self.weight = torch.nn.Parameter(torch.empty(int(self.words(num_embeddings, embedding_dim, share=share, block=block))))
        torch.nn.init.uniform_(self.weight, -bound, bound)
        drawn = torch.randint(1, PRIME, (6,), generator=torch.Generator().manual_seed(seed)).tolist()
        self.places, self.turns = (drawn[0], drawn[1], drawn[2]), (drawn[3], drawn[4], drawn[5])  # (B, C, D) of each hash

    @classmethod
    def words(cls, rows: int, dim: int, *, share: float = 1.0, block: int | None = None, **_: Any) -> float:
        if not 0 <= share <= 1:
            raise ParameterError(f"robe: share={share}: give a share of the plain table's words, in (0, 1]")
        if dim % (block or dim):
            raise ParameterError(f"robe: block={block} does not divide the {dim} dimensions")
        return max(block or dim, math.floor(rows * dim * share))

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("share", 0.0, 1.0, whole=False)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        wide = self.block or self.embedding_dim
        around = torch.cat([self.weight, self.weight[: wide - 1]])  # blocks go on at the front where the array ends
        blocks = around.unfold(0, wide, 1) if wide > 1 else around.unsqueeze(1)
        return in_blocks(lambda part: self._read(part, blocks), ids)

    def _read(self, ids: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
        places = self._places(ids)
        if self.compat == "released":
            around = self.weight.numel()
            steps = torch.arange(blocks.shape[1], device=ids.device)
            at = (places.unsqueeze(-1) + steps) % PRIME % around
            read = self.weight.index_select(0, at.flatten()).view(len(ids), self.embedding_dim)
        else:
            read = blocks.index_select(0, (places % PRIME % self.weight.numel()).flatten()).view(len(ids), self.embedding_dim)
        return read.mul_(self._signs(ids)) if self.signs else read

    def _places(self, ids: torch.Tensor) -> torch.Tensor:
        """B i + C c + D for ids (m,) and chunks c: (m, chunks), not yet divided by P."""
        by_id, by_chunk, more = self.places
        chunks = torch.arange(self.embedding_dim // (self.block or self.embedding_dim), device=ids.device)
        places: torch.Tensor = (by_id * ids + more).unsqueeze(1) + by_chunk * chunks % PRIME
        return places

    def _signs(self, ids: torch.Tensor) -> torch.Tensor:
        """1 or -1 for each id and coordinate (m, d), by whether (B i + C j + D) mod P is even.

        With u = (B i + D) mod P and v = C j mod P the remainder is u + v, less P (which is odd) where it reaches P. So the signs of an id
        are one of 2 (d + 1) patterns: by the parity of u, and by how many of the sorted P - v are at most u.
        """
        by_id, by_place, more = self.turns
        v = by_place * torch.arange(self.embedding_dim, device=ids.device) % PRIME
        edges = (PRIME - v).sort().values
        u = (by_id * ids + more) % PRIME
        lows = torch.cat([edges.new_zeros(1), edges])  # the least u of each pattern
        turned = (v + (lows.unsqueeze(1) >= PRIME - v)) % 2  # parity of v, turned once more where P is taken off
        patterns: torch.Tensor = 1 - 2 * torch.cat([turned, 1 - turned]).float()
        return patterns.index_select(0, torch.searchsorted(edges, u, right=True) + (u & 1) * len(lows))

    def memory(self) -> Memory:
        return Memory({"array": self.weight.numel()})
