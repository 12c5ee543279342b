"""The head of a trained text classifier, exchanged for fixed class vectors and tuned: what `regraft bias head` does.

Enters: a checkpoint, the classes in the order of the vectors, labelled texts. Leaves: a checkpoint of stock parts: behind the last hidden
layer the tuned projection and the class vectors are multiplied into one ordinary layer, which orders the classes alike.
"""

import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from regraft import provenance
from regraft.bias.equiangular.bases import Bases, make_bases
from regraft.bias.equiangular.head import EquiangularHead
from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.tasks.classification import Classification
from regraft.tasks.fine_tuning import FineTuning, fine_tune
from regraft.tasks.labelled.readers import open_labelled
from regraft.tasks.saving import save_task
from regraft.tasks.task import check_encoder

HEAD = "equiangular.safetensors"


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What a head becomes. `labels`: a table of text and label; `test`: another one, else a fifth of `labels`.

    `plain` : tune an ordinary head too, on the same batches.
    """

    labels: Path
    test: Path | None = None
    temperature: float = 0.07
    tuning: FineTuning = field(default_factory=FineTuning)
    seed: int = 0
    plain: bool = True


def read_classes(path: Path) -> list[str]:
    """Names of classes, one a line. Raises `ParameterError`: no such file, fewer than two, one that stands twice."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"--classes {path}: cannot be read ({error}): give a text file with a class a line") from None
    if len(names) < 2:
        raise ParameterError(f"--classes {path}: {len(names)} classes: give at least two, one a line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ParameterError(f"--classes {path}: '{twice}' stands there twice")
    return names


def swap_head(model: nn.Module, bases: Bases, *, classes: int | None = None, temperature: float = 0.07) -> str:
    """Exchange, in place, the last linear layer of any classifier for a linear layer to d and an `EquiangularHead`; returns its name.

    The head has the first `classes` vectors (None: all), for models ask for as many scores as they have labels. Raises `ParameterError`
    where `model` ends in no linear layer, or there are fewer vectors.
    """
    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not layers or not layers[-1][0]:
        raise ParameterError(f"{type(model).__name__} has no linear layer that could be its head")
    name, old = layers[-1]
    new = nn.Linear(old.in_features, bases.dim)
    nn.init.normal_(new.weight, std=old.in_features**-0.5)
    nn.init.zeros_(new.bias)
    head = EquiangularHead(bases, classes=classes, temperature=temperature)
    model.set_submodule(name, nn.Sequential(new, EquiangularHead(head.vectors[: head.classes], temperature=temperature)))
    return str(name)


def swap(model: str, classes: Path, bases: Path | None, given: Swap, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Tune `model` under a fixed head, and (`given.plain`) under an ordinary one beside it; write the first to `out`.

    Without `bases`, orthonormal vectors in as many dimensions as there are classes, or as many as the hidden size. Raises `TaskError`,
    `ParameterError`, `InputError`.
    """
    start = time.perf_counter()
    from transformers import AutoTokenizer

    names = read_classes(classes)
    check_output(out, overwrite=overwrite)
    vectors = Bases.load(bases) if bases is not None else make_bases(len(names), len(names), seed=given.seed)
    if vectors.classes < len(names):
        raise ParameterError(
            f"{bases}: {vectors.classes} vectors for {len(names)} classes: make more with regraft bias bases --classes {len(names)}"
        )
    checkpoint = Checkpoint.open(model)
    check_encoder(checkpoint)
    data = open_labelled("classification", given.labels, given.test)
    unknown = sorted({example.labels[0] for example in (*data.train, *data.test)} - set(names))
    if unknown:
        raise ParameterError(f"{given.labels}: the label '{unknown[0]}' is none of the classes in {classes}: add it there")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, local_files_only=True)
    task = Classification(names, given.tuning.max_length)
    train, test = task.encode(tokenizer, data.train), task.encode(tokenizer, data.test)

    def tuned(fixed: bool) -> tuple[nn.Module, str, Any]:
        torch.manual_seed(given.seed)
        network = task.build(checkpoint)
        name = swap_head(network, vectors, classes=len(names), temperature=given.temperature) if fixed else ""
        with step(f"tuning under {'fixed class vectors' if fixed else 'an ordinary head'}"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "features are shorter")  # AdamW's steps do not go with the gradient's length
            fine_tune(task, network, train, given.tuning, seed=given.seed)
        return network, name, task.count(task.predict(network, test), data.test)[:, 0]

    network, name, right = tuned(True)
    figures: dict[str, Any] = {"accuracy": float(np.mean(right)), "classes": len(names), "dim": vectors.dim}
    figures |= {key: vectors.facts[key] for key in ("greatest_cosine", "bound")} | {"held_out": len(data.test)}
    if given.plain:
        figures["accuracy_plain_head"] = float(np.mean(tuned(False)[2]))
    parts = network.get_submodule(name)
    assert isinstance(parts, nn.Sequential)
    project, head = parts[0], parts[1]
    assert isinstance(project, nn.Linear)
    assert isinstance(head, EquiangularHead)
    network.set_submodule(name, head.folded(project))
    with atomic_directory(out, overwrite=overwrite, sources=(checkpoint.path,)) as folder:
        save_task(task, network, tokenizer, folder / "model")
        for part in (folder / "model").iterdir():
            part.rename(folder / part.name)
        (folder / "model").rmdir()
        kept = {"vectors": head.vectors.contiguous(), "weight": project.weight.detach(), "bias": project.bias.detach()}
        save_file(kept, folder / HEAD)
        made = provenance.record(
            checkpoint, "bias head", method="equiangular", parameters={"temperature": given.temperature, "steps": given.tuning.steps},
            seed=given.seed, metrics=figures, timings={"seconds": time.perf_counter() - start},
        )  # fmt: skip
        provenance.save(made, folder, [path.name for path in sorted(folder.iterdir())])
    return figures
