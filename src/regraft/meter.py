"""Time and memory of a piece of work, measured where it happens."""

import ctypes
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil


@dataclass
class Cost:
    """`seconds` of wall time and `peak_mb`, the most resident memory the process added while it ran, in MB (10^6 bytes)."""

    seconds: float = 0.0
    peak_mb: float = 0.0


def release_memory() -> None:
    """Collect garbage and hand freed memory back to the system, where the C library can."""
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc's own; elsewhere there is no such function
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def metered(interval: float = 0.005) -> Iterator[Cost]:
    """Fill the yielded `Cost` when the block ends. Resident memory is sampled every `interval` seconds from a thread.

    What the C library holds ready of memory freed before goes back to the system first: taken up again, it would not count.
    """
    release_memory()
    cost, process, done = Cost(), psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peak = before

    def sample() -> None:
        nonlocal peak
        while not done.wait(interval):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    start = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - start
        done.set()
        watcher.join()
        cost.peak_mb = (max(peak, process.memory_info().rss) - before) / 1e6
