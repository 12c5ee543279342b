"""NF4 with double quantization in plain PyTorch: 4.127 bits a weight, on any device.

Enters: a float tensor. Leaves: an `NF4Weight`, from which `dequantize` makes the tensor again, each value off by at most half the gap
between its code's neighbors times its block's largest value. Code book, block sizes and rounding are QLoRA's, so values equal those of
bitsandbytes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch

from regraft.errors import ParameterError

BLOCK = 64  # weights that share an absolute maximum
SCALE_BLOCK = 256  # of those maxima, how many share theirs
CHUNK = 1 << 16  # blocks worked on at a time, so that temporaries stay small beside a big matrix

# Quantiles of a standard normal, scaled to [-1, 1], with an exact zero (Dettmers et al. 2023, appendix E).
LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
BITS = 4 + 8 / BLOCK + 32 / (BLOCK * SCALE_BLOCK)  # a weight: its code, its share of a maximum's code, its share of that code's scale


@dataclass(frozen=True)
class NF4Weight:
    """A tensor of `shape` (n numbers, row by row) in NF4.

    Attributes
    ----------
    codes : (ceil(n / 2),) uint8, two codes a byte, the first in the high half; the last block is filled up with zeros.
    scales : (blocks,) uint8, codes of each block's absolute maximum less `offset`.
    tops : (ceil(blocks / 256),) float32, what a scale's code of 1 stands for.
    offset : () float32, the mean of the absolute maxima.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    tops: torch.Tensor
    offset: torch.Tensor
    shape: torch.Size

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.codes, self.scales, self.tops, self.offset))

    @property
    def bits_per_parameter(self) -> float:
        """8 * bytes / numbers; tends to `BITS` for large tensors."""
        return 8 * self.nbytes / math.prod(self.shape)


@cache
def dynamic_levels() -> torch.Tensor:
    r"""The 256 levels of the signed 8-bit dynamic float in which the maxima are kept, ascending.

    0, 1, and :math:`\pm 10^{i-6}(0.1 + 0.9 (j + 1/2) / 2^i)` for i = 0..6, j = 0..2^i - 1: the larger the number, the finer its share.
    """
    positive = [10.0 ** (i - 6) * (0.1 + 0.9 * (j + 0.5) / 2**i) for i in range(7) for j in range(2**i)]
    return torch.tensor(sorted([*positive, *(-value for value in positive), 0.0, 1.0]), dtype=torch.float32)


def quantize(weight: torch.Tensor) -> NF4Weight:
    """`weight` (any shape, any float dtype) in NF4.

    Raises `ParameterError` if it is empty, not of a float dtype, or holds NaN or infinity.
    """
    if not weight.is_floating_point() or weight.numel() == 0:
        raise ParameterError(f"NF4 takes float tensors with numbers in them, not {weight.dtype} of shape {tuple(weight.shape)}")
    codes, maxima = zip(*(_quantize_blocks(blocks) for blocks in _blocks(weight.detach())), strict=True)
    absolute = torch.cat(maxima)
    if not bool(torch.isfinite(absolute).all()):
        raise ParameterError(f"a weight of shape {tuple(weight.shape)} holds NaN or infinity: repair the checkpoint before quantizing it")
    offset = absolute.mean()
    groups = _padded(absolute - offset, SCALE_BLOCK)
    tops = groups.abs().amax(1)
    levels = dynamic_levels().to(weight.device)
    scales = _nearest(groups / tops.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1), levels).reshape(-1)[: len(absolute)]
    return NF4Weight(torch.cat(codes)[: -(-weight.numel() // 2)], scales, tops, offset, weight.shape)


def dequantize(weight: NF4Weight, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The tensor that `weight` stands for, in `dtype`; the arithmetic is in float32."""
    count = math.prod(weight.shape)
    scales = block_scales(weight)
    if len(weight.codes) < len(scales) * BLOCK // 2:  # the last block's padding is not kept
        full = torch.zeros(len(scales) * BLOCK // 2, dtype=torch.uint8, device=weight.codes.device)
        full[: len(weight.codes)] = weight.codes
    else:
        full = weight.codes
    # one look-up fetches the two floats of a byte as a single 64-bit number: four times as fast as indexing rows of two
    values = _pairs(weight.codes.device).index_select(0, full.int()).view(torch.float32)
    values = values.view(-1, BLOCK).mul_(scales.unsqueeze(1)).view(-1)[:count].view(weight.shape)
    return values if dtype == torch.float32 else values.to(dtype)


def block_scales(weight: NF4Weight) -> torch.Tensor:
    """What each block's codes are multiplied with: its absolute maximum as the second quantization kept it. (blocks,) float32."""
    levels = dynamic_levels().to(weight.scales.device)
    tops = weight.tops.repeat_interleave(SCALE_BLOCK)[: len(weight.scales)]
    return levels.index_select(0, weight.scales.int()) * tops + weight.offset


def levels() -> torch.Tensor:
    """The code book, (16,) float32, ascending."""
    return torch.tensor(LEVELS, dtype=torch.float32)


def _blocks(weight: torch.Tensor) -> Iterator[torch.Tensor]:
    """`weight` as float32 blocks (up to `CHUNK`, 64), row by row; the last one filled up with zeros."""
    flat = weight.reshape(-1)
    for start in range(0, flat.numel(), CHUNK * BLOCK):
        yield _padded(flat[start : start + CHUNK * BLOCK].float(), BLOCK)


def _quantize_blocks(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed codes and absolute maxima of `blocks` (n, 64)."""
    maxima = blocks.abs().amax(1)
    shares = blocks / maxima.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)
    codes = _nearest(shares, levels().to(blocks.device)).reshape(-1, 2)
    return (codes[:, 0] << 4) | codes[:, 1], maxima


def _nearest(values: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """Index of the level nearest to each value, uint8; from the middle between two the lower."""
    return torch.bucketize(values, (book[1:] + book[:-1]) / 2, out_int32=True).to(torch.uint8)


def _padded(flat: torch.Tensor, size: int) -> torch.Tensor:
    """`flat` as rows of `size`, the last one filled up with zeros."""
    missing = -len(flat) % size
    return torch.nn.functional.pad(flat, (0, missing)).view(-1, size)


@cache
def _pairs(device: torch.device) -> torch.Tensor:
    """For each byte the levels of its two codes, two float32 seen as one int64. (256,)"""
    book = levels()
    return torch.stack([book.repeat_interleave(16), book.repeat(16)], dim=1).view(torch.int64).view(256).to(device)
