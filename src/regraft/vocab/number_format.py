"""The number formats in which this processor multiplies matrices fastest.

Asked and not timed: a timing on a busy machine would choose differently from run to run.
"""

import functools
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
