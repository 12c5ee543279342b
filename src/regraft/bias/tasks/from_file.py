"""A task with environments from one's own examples, in a safetensors file.

Tensors: x (n, ...), y (n,) classes from 0 on, environment (n,); x_test, y_test, environment_test, the same of held-out examples.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from regraft.bias.tasks.task import WORST, Task
from regraft.errors import TaskError

NAMES = ("x", "y", "environment", "x_test", "y_test", "environment_test")


def environments_from(path: Path) -> Task:
    """Raises `TaskError`: no such file; tensors are missing, of unequal length, not finite; classes or environments are no ids."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TaskError(f"{path}: cannot be read as safetensors ({error}): give a file with {', '.join(NAMES)}") from None
    if missing := [name for name in NAMES if name not in found]:
        raise TaskError(f"{path}: no tensor {missing[0]}: it must hold {', '.join(NAMES)}")
    for side in ("", "_test"):
        x, y, where = found["x" + side], found["y" + side], found["environment" + side]
        if not len(x) or not (y.shape == where.shape == x.shape[:1]):
            raise TaskError(f"{path}: x{side}, y{side} and environment{side} must have one entry an example, and one example or more")
        if y.is_floating_point() or where.is_floating_point() or int(y.min()) < 0:
            raise TaskError(f"{path}: y{side} and environment{side} must be integers, classes from 0 on")
        if not bool(x.float().isfinite().all()):
            raise TaskError(f"{path}: x{side} holds numbers that are not finite: remove those examples")
    if found["x"].shape[1:] != found["x_test"].shape[1:]:
        raise TaskError(f"{path}: x has examples of {tuple(found['x'].shape[1:])}, x_test of {tuple(found['x_test'].shape[1:])}")
    if lost := sorted(set(torch.unique(found["y_test"]).tolist()) - set(torch.unique(found["y"]).tolist())):
        raise TaskError(f"{path}: class {lost[0]} is held out and never learned: add examples to y")
    y = found["y"].long()
    extra = {name: found[name].long() for name in ("environment", "environment_test")}
    return Task(
        path.stem, "environments", found["x"].float(), y, found["x_test"].float(), found["y_test"].long(), int(y.max()) + 1, extra, WORST
    )
