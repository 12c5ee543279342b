r"""Product quantization: columns in parts, and of each part only which of :math:`2^b` centroids is nearest.

Training and encoding are faiss's; what is held and looked up is a table of centroids and packed codes.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.tables.codes.packing import MOST_BITS, pack, packed_bytes, packed_words, unpack_rows

POINTS = 39  # rows that a centroid should have to learn from: faiss warns below
ENCODED = 1 << 18  # rows at a time


class ProductCodes(nn.Module):
    """Rows (n, d) as `parts` codes of `bits` bits each.

    Attributes
    ----------
    centroids : (2^bits, d): column j of row c is that coordinate of centroid c of the part that j belongs to.
    codes : packed uint8, `parts` codes a row.

    Raises `ParameterError` for more parts than columns, or more than 16 bits.
    """

    codes: torch.Tensor
    part_of: torch.Tensor

    def __init__(self, rows: int, dim: int, parts: int, bits: int, bound: float) -> None:
        super().__init__()
        if not 1 <= parts <= dim:
            raise ParameterError(f"{parts} parts of {dim} columns: give 1 to {dim}")
        if not 1 <= bits <= MOST_BITS:
            raise ParameterError(f"codes of {bits} bits: give 1 to {MOST_BITS}")
        self.count, self.parts, self.bits = rows, parts, bits
        self.widths = [dim // parts + (part < dim % parts) for part in range(parts)]
        self.centroids = nn.Parameter(torch.empty(1 << bits, dim).uniform_(-bound, bound))
        drawn = torch.randint(0, 256, (packed_bytes(rows * parts, bits),), dtype=torch.uint8)  # a hash a part, until `fit`
        self.register_buffer("codes", drawn)
        self.register_buffer("part_of", torch.repeat_interleave(torch.tensor(self.widths)), persistent=False)

    @staticmethod
    def words(rows: int, dim: int, parts: int, bits: int) -> float:
        r""":math:`2^b d + n p b / 32`."""
        return (1 << bits) * dim + packed_words(rows * parts, bits)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (m, d) of ids (m,)."""
        found = unpack_rows(self.codes, ids, self.parts, self.bits)
        return self.centroids.gather(0, found[:, self.part_of])

    @torch.no_grad()
    def fit(self, weight: torch.Tensor, seed: int = 0) -> None:
        """Learn the centroids of `weight` (n, d), part by part, and encode its rows. No more rows than centroids are held exactly."""
        import faiss

        if len(weight) <= len(self.centroids):
            self.centroids[: len(weight)] = weight
            self.codes.copy_(pack(torch.arange(len(weight)).repeat_interleave(self.parts), self.bits))
            return
        found = np.empty((len(weight), self.parts), dtype=np.uint16)
        for part, columns in enumerate(torch.split(weight, self.widths, 1)):
            own = np.ascontiguousarray(columns.float().cpu().numpy())
            quantizer = faiss.ProductQuantizer(own.shape[1], 1, self.bits)
            quantizer.cp.seed, quantizer.cp.min_points_per_centroid = seed + 1, 1
            quantizer.train(own)
            centers = faiss.vector_to_array(quantizer.centroids).reshape(1 << self.bits, -1)
            begin = sum(self.widths[:part])
            self.centroids[:, begin : begin + own.shape[1]] = torch.from_numpy(centers)
            for start in range(0, len(own), ENCODED):
                coded = quantizer.compute_codes(own[start : start + ENCODED]).astype(np.uint16)
                found[start : start + ENCODED, part] = coded[:, 0] if coded.shape[1] == 1 else coded[:, 0] | (coded[:, 1] << 8)
        self.codes.copy_(pack(torch.from_numpy(found.astype(np.int32)), self.bits))

    def memory(self) -> dict[str, float]:
        """Words by part."""
        return {"centroids": self.centroids.numel(), "codes": self.codes.numel() / 4}


def bits_within(allowed: float, sizes: Sequence[int], dim: int, most: Sequence[int]) -> tuple[int, ...]:
    """Bits of each of several tables of `sizes` rows: the `most`, or all fewer by as many as leave half of `allowed` words to the codes."""
    for fewer in range(max(most)):
        bits = [max(1, min(own - fewer, int(math.log2(size)))) for own, size in zip(most, sizes, strict=True)]
        if sum(1 << own for own in bits) * dim <= allowed / 2:
            return tuple(bits)
    return (1,) * len(sizes)


def bits_for(rows: int, most: int) -> int:
    """As many bits as leave 39 rows to each centroid, at least 1 and at most `most`."""
    return max(1, min(most, int(math.log2(max(rows / POINTS, 2)))))
