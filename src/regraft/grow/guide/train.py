"""A network trained under a guide: what `regraft grow guide` does.

Enters: a target and a guide (names of built-in networks, or directories that this wrote), labelled arrays, a way of guiding. Leaves: a
directory with the target's weights, what it is, and the course of its training: task and guidance apart.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regraft import provenance
from regraft.errors import CheckpointError, ParameterError
from regraft.grow.guide.data import Arrays, open_arrays
from regraft.grow.guide.guide import Guide
from regraft.grow.guide.networks import build
from regraft.method import resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import progress_bar, step

NETWORK, WEIGHTS = "network.json", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long is trained, and how: Adam, batches of one size (a smaller batch makes CKA larger than it is)."""

    steps: int = 300
    batch_size: int = 256
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ParameterError(f"--steps {self.steps}: give 1 or more")
        if self.batch_size < 2:
            raise ParameterError(f"--batch-size {self.batch_size}: give 2 or more, for layers are compared over the examples of a batch")
        if not 0 < self.lr < 10:
            raise ParameterError(f"--lr {self.lr}: give a number above 0 and below 10")


@dataclass(frozen=True)
class Data:
    """The arrays as what an output is made from."""

    root: Path
    sha256: str
    id: str | None = None
    revision: str | None = None

    def source_hash(self) -> str:
        return f"sha256:{self.sha256}"


def fit(
    target: nn.Module, data: Arrays, budget: Budget, extra: Any = None, each: Callable[[int, float, float], None] | None = None
) -> nn.Module:
    """Train `target` in place; `extra(x)`, if given, is added to the cross entropy of each batch. `each` is told (step, task, guidance)."""
    torch.manual_seed(budget.seed)
    draw = torch.Generator().manual_seed(budget.seed)
    optimizer = torch.optim.Adam(target.parameters(), lr=budget.lr)
    size = min(budget.batch_size, len(data.x))
    order = torch.empty(0, dtype=torch.long)
    target.train()
    for at in range(budget.steps):
        if len(order) < size:
            order = torch.randperm(len(data.x), generator=draw)
        batch, order = order[:size], order[size:]
        x, y = data.x[batch], data.y[batch]
        task = cross_entropy(target(x), y)
        pull: Tensor | float = 0.0 if extra is None else extra(x)
        loss = task if extra is None else task + pull
        if not torch.isfinite(loss):
            raise ParameterError(f"the loss is not a number at step {at}: lower the learning rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if each is not None:
            each(at, float(task.detach()), pull if isinstance(pull, float) else float(pull.detach()))
    return target.eval()


@torch.no_grad()
def right(network: nn.Module, data: Arrays) -> Tensor:
    """Whether each test example is classified rightly, (n,) bool."""
    network.eval()
    said = torch.cat([network(part).argmax(1) for part in torch.split(data.x_test, 512)])
    return said == data.y_test


def train_guided(
    target: str,
    *,
    guide: str,
    data: str,
    out: Path,
    method: str = "guidance",
    settings: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
    guide_steps: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train `target` under `guide` on `data`, and beside it the same target without a guide; write the first to `out`.

    A guide by name is at random unless `guide_steps` says how long it is trained first. Raises `ParameterError`, `CorpusError`,
    `CheckpointError` for what cannot be built or opened.
    """
    start, budget = time.perf_counter(), budget or Budget()
    way: Guide = resolve("guide", method, settings)
    check_output(out, overwrite=overwrite)
    arrays = open_arrays(data, budget.seed)
    teacher = open_network(guide, arrays, budget.seed + 1)
    if guide_steps:
        with step(f"training the guide {guide}"):
            fit(teacher, arrays, Budget(steps=guide_steps, batch_size=budget.batch_size, lr=budget.lr, seed=budget.seed))
    student, plain = (open_network(target, arrays, budget.seed) for _ in range(2))
    extra = way.loss(student, teacher)
    course: list[dict[str, float]] = []
    with progress_bar("training with and without the guide", total=2 * budget.steps, unit="steps") as bar:

        def guided(at: int, task: float, pull: float) -> None:
            course.append({"step": at, "task": task, "guidance": pull})
            bar.advance()
            bar.say(f"task {task:.2f}, guidance {pull:.2f}")

        fit(student, arrays, budget, extra, guided)
        fit(plain, arrays, budget, None, lambda *_: bar.advance())
    layers = dict(extra.per_layer)
    extra.remove()
    accuracy, without, own = (float(right(one, arrays).float().mean()) for one in (student, plain, teacher))
    figures = {"accuracy": accuracy, "without_guide": without, "guide_accuracy": own, "steps": budget.steps, "distances": layers}
    with atomic_directory(out, overwrite=overwrite) as temporary:
        save_file({name: value.contiguous() for name, value in student.state_dict().items()}, temporary / WEIGHTS)
        about = {"network": _name(target), "shape": list(arrays.shape), "classes": arrays.names}
        (temporary / NETWORK).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        (temporary / "course.json").write_text(json.dumps(course) + "\n", encoding="utf-8")
        parameters = {name: getattr(way, name) for name in way.parameters()} | {
            "target": target,
            "guide": guide,
            "guide_steps": guide_steps,
        }
        made = provenance.record(
            Data(Path(data), arrays.sha256),
            "grow guide",
            method=way.name,
            parameters=parameters,
            seed=budget.seed,
            corpus={"sha256": arrays.sha256, "name": data},
            timings={"all": round(time.perf_counter() - start, 3)},
            metrics=figures,
        )
        provenance.save(made, temporary, [WEIGHTS, NETWORK, "course.json"])
    return figures | {"out": str(out), "seconds": round(time.perf_counter() - start, 1)}


def open_network(name: str, data: Arrays, seed: int) -> nn.Module:
    """A built-in network at random, or one that `train_guided` wrote. Raises `ParameterError`, `CheckpointError`."""
    if not Path(name).is_dir():
        return build(name, data.shape, len(data.names), seed)
    network = load(name)
    about = _about(Path(name))
    if tuple(about["shape"]) != data.shape:
        raise CheckpointError(f"{name}: takes examples of {tuple(about['shape'])}, the data has {data.shape}")
    return network


def load(directory: str | Path) -> nn.Module:
    """The network of a directory that `regraft grow guide` wrote, in evaluation mode. Raises `CheckpointError`."""
    folder = Path(directory)
    about = _about(folder)
    try:
        network = build(about["network"], tuple(about["shape"]), len(about["classes"]), 0)
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: its weights do not fit its network ({str(error).splitlines()[0]})") from None
    return network.eval()


def _name(target: str) -> str:
    return str(_about(Path(target))["network"]) if Path(target).is_dir() else target


def _about(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / NETWORK).read_text("utf-8"))
        return {key: found[key] for key in ("network", "shape", "classes")}
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder}: has no {NETWORK} that `regraft grow guide` wrote") from None


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of all parameters and buffers: the same before and after, where a guide was left alone."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
