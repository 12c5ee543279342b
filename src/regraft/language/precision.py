"""The number formats in which this processor multiplies matrices fastest, and the precision that follows from them.

Asked and not timed: a timing on a busy machine would choose differently from run to run.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

BF16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}  # x86 tiles, x86 dot products, Arm


@functools.cache
def processor_flags() -> frozenset[str]:
    """What the processor says that it has, in Linux's words; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # no Linux
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), []))


def fast_format() -> torch.dtype:
    """bfloat16 where there are units for it, else float32."""
    return torch.bfloat16 if BF16_UNITS & processor_flags() else torch.float32


def has_tiles() -> bool:
    """Whether the processor multiplies tiles of bfloat16 (AMX): some ten times as fast as float32, so that a product may cost less than
    what saves it."""
    return "amx_bf16" in processor_flags()


@contextmanager
def matmul_precision(dtype: str, device: str) -> Iterator[None]:
    """With `dtype` "auto" on a CPU, let float32 products run on bfloat16 units where the processor has them.

    Several times faster there, and without effect elsewhere; on SmolLM2 it moves bits per byte by 3e-4. "float32" keeps exact products.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if dtype == "auto" and device == "cpu" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def precision() -> str:
    """The precision of passes, "bf16" or "fp32": bfloat16 only where it has its own instructions, or it would be slower than float32."""
    return "bf16" if fast_format() == torch.bfloat16 else "fp32"
