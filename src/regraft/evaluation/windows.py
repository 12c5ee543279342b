"""Documents cut into windows that fit a model, and windows gathered into batches of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `end` of `document`, of which those from `first` on are scored."""

    document: int
    start: int
    first: int
    end: int


def plan_windows(lengths: Sequence[int], skips: Sequence[int], size: int, stride: int) -> Iterator[Window]:
    """Windows of at most `size` tokens that score each token past the first `skips[i]` of document i exactly once."""
    for document, (length, done) in enumerate(zip(lengths, skips, strict=True)):
        start = 0
        while done < length:
            end = min(start + size, length)
            yield Window(document, start, done, end)
            start, done = start + stride, end


def batches_by_length(lengths: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of sequences grouped by similar length, longest first, with ``longest * count <= batch_tokens`` (at least one a batch)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count


def pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (batch, longest) padded on the right with 0, and the mask that is 1 on real tokens."""
    longest = max(len(s) for s in sequences)
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    mask = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
