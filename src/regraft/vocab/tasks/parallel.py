"""Independent fine-tunings beside each other, a core each: on short texts, threads inside one model mostly wait for each other."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import joblib
import torch

In = TypeVar("In")
Out = TypeVar("Out")

MOST = 8  # processes: each holds a model, its gradients and its optimizer


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
