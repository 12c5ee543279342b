"""Independent fine-tunings beside each other, a core each: on short texts, threads inside one model, or a GPU, mostly wait."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import joblib
import torch

In = TypeVar("In")
Out = TypeVar("Out")

MOST = 8  # processes: each holds a model, its gradients and its optimizer
PER_PARAMETER = 32  # bytes: those three take 16; the rest is for what a batch leaves behind
GPU_CONTEXT = 1 << 30  # bytes that a process takes on a GPU before it does anything


def room(device: str, parameters: int) -> int:
    """How many fine-tunings of so many `parameters` may run beside each other: as PyTorch has threads, and as a GPU has memory."""
    if device == "cpu":
        return torch.get_num_threads()
    if not device.startswith("cuda"):
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(torch.get_num_threads(), free // (GPU_CONTEXT + PER_PARAMETER * parameters)))


def spread(function: Callable[[In], Out], jobs: Iterable[In], workers: int) -> Iterator[Out]:
    """Results of `function` on each of `jobs`, in their order, as they come in.

    With one worker everything stays in this process. With more, `function` and the jobs are pickled to `workers` processes of one thread
    each, which compute with the precision that holds here; what one of them raises is raised here.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    precision = torch.get_float32_matmul_precision()
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        pool = joblib.Parallel(n_jobs=min(workers, MOST), return_as="generator", batch_size=1)
        yield from pool(joblib.delayed(alone)(function, job, precision) for job in jobs)


def alone(function: Callable[[Any], Any], job: Any, precision: str) -> Any:
    """`function` on one job, in a process of its own."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(precision)
    return function(job)
