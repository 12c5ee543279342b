"""Truncated singular value decompositions of a higher rank for long rows."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge

from regraft.tables.budget import Knob
from regraft.tables.embedding import Mode
from regraft.tables.factors import Factors
from regraft.tables.magnitude import BENCH, ByMagnitude, even_sizes

POWER = 0.3


class MagnitudeSvdEmbedding(ByMagnitude):
    r"""Magnitude-SVD: rows in groups of equal total norm, group g with an SVD of its own of rank :math:`\lambda n_g^{-0.3}`.

    scale : lambda; the budget decides. Ranks are rounded down, at least 1 and at most min(n_g, d).
    groups : how many (4 is ours; the paper names none). sizes : rows of each, from the table's norms; equal by default.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`n + \sum_g \min(r_g (n_g + d), n_g d)` words, the first n for the map of rows; a group that
    factors would not make smaller is held as it is.
    """

    name = "magnitude-svd"
    paper = BENCH
    summary = "two factors a group of rows, of a higher rank for long rows"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        scale: Annotated[float, Ge(0)] = 1.0,
        groups: Annotated[int, Ge(1)] = 4,
        sizes: tuple[int, ...] | None = None,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        sizes = sizes or even_sizes(num_embeddings, groups)
        super().__init__(num_embeddings, embedding_dim, sizes=sizes, mode=mode, padding_idx=padding_idx)
        self.scale, self.groups = scale, groups
        bound = math.sqrt(1 / num_embeddings)
        for size in sizes:
            self.pieces.append(Factors(size, embedding_dim, group_rank(size, embedding_dim, scale), bound))

    @classmethod
    def words(cls, rows: int, dim: int, *, scale: float = 1.0, groups: int = 4, sizes: Sequence[int] | None = None, **_: Any) -> float:
        sizes = sizes or even_sizes(rows, groups)
        return rows + sum(Factors.words(size, dim, group_rank(size, dim, scale)) for size in sizes)

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("scale", 0.0, dim * max(sizes) ** POWER, whole=False)


def group_rank(size: int, dim: int, scale: float) -> int:
    """Rank of a group of `size` rows."""
    return max(1, min(int(scale * size**-POWER), size, dim))
