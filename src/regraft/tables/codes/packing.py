"""Codes of b bits side by side, without gaps: n codes take n b / 8 bytes.

Enters: whole numbers below 2^b. Leaves: bytes, the lowest bit first; and the codes again at any places, without unpacking the rest.
"""

import numpy as np
import torch

from regraft.tables.memory import WORD

MOST_BITS = 16
SPARE = 2  # bytes at the end: a code is read as the three bytes that it may lie in
BLOCK = 1 << 20  # codes that are packed at a time; a multiple of 8, so that each block begins a byte


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` codes of `bits` bits."""
    return -(-count * bits // 8) + SPARE


def packed_words(count: int, bits: int) -> float:
    """The same in words of 32 bits."""
    return packed_bytes(count, bits) / WORD


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """`codes` (any shape, row by row) as uint8."""
    flat, wanted = codes.reshape(-1).cpu().numpy(), np.arange(bits)
    parts = []
    for start in range(0, len(flat), BLOCK):
        digits = (flat[start : start + BLOCK, None].astype(np.int64) >> wanted) & 1
        parts.append(np.packbits(digits.astype(np.uint8).reshape(-1), bitorder="little"))
    return torch.from_numpy(np.concatenate([*parts, np.zeros(SPARE, np.uint8)]))


def unpack(packed: torch.Tensor, places: torch.Tensor, bits: int) -> torch.Tensor:
    """The codes at `places` (any shape), int64."""
    if bits == 8:
        return packed[places].long()
    first = places * bits
    byte, shift = torch.div(first, 8, rounding_mode="floor"), first % 8
    read = packed[byte].long() | (packed[byte + 1].long() << 8) | (packed[byte + 2].long() << 16)
    return (read >> shift) & ((1 << bits) - 1)


def unpack_rows(packed: torch.Tensor, ids: torch.Tensor, parts: int, bits: int) -> torch.Tensor:
    """Codes (m, parts), int64, of rows `ids` (m,) of `parts` codes each."""
    return unpack(packed, ids.unsqueeze(1) * parts + torch.arange(parts, device=ids.device), bits)
