"""A set of ids as bits, and how many of the set lie before an id: 2 words for 32 ids, where a map of rows would take 32."""

import torch
from torch import nn


class Bitmap(nn.Module):
    """Which of n ids are in the set.

    Attributes
    ----------
    flags : int32 (ceil(n / 32),), the bits. before : int32, how many are set in all words before.
    """

    flags: torch.Tensor
    before: torch.Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        for name in ("flags", "before"):
            self.register_buffer(name, torch.zeros(-(-count // 32), dtype=torch.int32))

    @staticmethod
    def words(count: int) -> int:
        return 2 * -(-count // 32)

    def fill(self, chosen: torch.Tensor) -> None:
        """Hold the ids where `chosen` (n,) is true."""
        words = nn.functional.pad(chosen.long(), (0, -len(chosen) % 32)).view(-1, 32)
        self.flags.copy_(_signed((words << torch.arange(32, device=words.device)).sum(1)))
        self.before.copy_(words.sum(1).cumsum(0) - words.sum(1))

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whether each of `ids` (m,) is in the set, and how many of the set are before it, int64."""
        word, bit = ids >> 5, ids & 31
        flags = self.flags[word].long() & 0xFFFFFFFF
        return (flags >> bit & 1).bool(), self.before[word] + ones(flags & ((1 << bit) - 1))


def ones(words: torch.Tensor) -> torch.Tensor:
    """How many bits are set in each of `words`, int64 in [0, 2^32)."""
    words = words - (words >> 1 & 0x55555555)
    words = (words & 0x33333333) + (words >> 2 & 0x33333333)
    words = words + (words >> 4) & 0x0F0F0F0F
    return (words * 0x01010101 & 0xFFFFFFFF) >> 24


def _signed(words: torch.Tensor) -> torch.Tensor:
    """int32 with the bits of int64 `words` below 2^32."""
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
