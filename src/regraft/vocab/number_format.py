"""The number format in which this processor multiplies matrices fastest."""

import functools
from pathlib import Path

import torch

BF16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}  # x86 tiles, x86 dot products, Arm


@functools.cache
def fast_format() -> torch.dtype:
    """bfloat16 where the processor says that it has units for it, else float32.

    Asked and not timed: a timing on a busy machine would choose differently from run to run.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # no Linux
        return torch.float32
    flags = next((line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), [])
    return torch.bfloat16 if BF16_UNITS.intersection(flags) else torch.float32
