"""A fine-tuned model on disk, with its tokenizer and what its outputs mean.

Models with a head of `transformers` open there by themselves; the encoder of the others does too, and their head lies beside it.

    save_task(task, model, encoder, "tagger")
    task, model, encoder = load_task("tagger")
    task.predict(model, task.encode(encoder, examples))
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel

from regraft.errors import TaskError
from regraft.output import atomic_directory
from regraft.tasks.classification import MeanPooledClassifier
from regraft.tasks.coding import Coding, LabelAttentionCoder
from regraft.tasks.kinds import TASKS
from regraft.tasks.task import Task, quiet

FILE, HEAD = "task.json", "head.safetensors"
SCHEMA = 1
Load = Callable[[Path], Any]
ENCODERS: dict[str, Load] = {}  # what loads a tokenizer that is none of `transformers`, by the folder that it keeps in its directory


def register_encoder(folder: str, load: Load) -> None:
    """Let `load_task` open directories with `folder` inside by `load`. A tokenizer of a family's own says so where it is defined."""
    ENCODERS[folder] = load


def save_task(task: Task, model: torch.nn.Module, encoder: Any, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write model, tokenizer and labels to the directory `out`, whole or not at all.

    `encoder` is a tokenizer of `transformers`, or another that saves itself and is known to `register_encoder`.

    Raises `OutputError` where `out` is in the way, and `TaskError` for a model whose table was narrowed to a comparison's tokens.
    """
    inside = task.table(model)
    if inside.get_input_embeddings().num_embeddings < len(encoder):
        raise TaskError(f"{out}: the model holds only some of its tokenizer's rows: train it without Narrowing to keep it")
    about: dict[str, Any] = {"schema": SCHEMA, "kind": task.kind, "labels": task.labels, "max_length": task.max_length}
    if isinstance(task, Coding):
        about |= {"chunk": task.chunk, "threshold": task.threshold}
    with atomic_directory(out, overwrite=overwrite) as folder:
        inside.save_pretrained(folder)
        encoder.save_pretrained(folder)
        if not isinstance(model, PreTrainedModel):
            head = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if not name.startswith("encoder.")}
            save_file(head, folder / HEAD)
        about["encoder"] = _kept_by(folder)
        (folder / FILE).write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
    return Path(out)


def load_task(directory: str | Path) -> tuple[Task, torch.nn.Module, Any]:
    """Task, model and tokenizer of a directory that `save_task` wrote. Raises `TaskError` where that is not what it is."""
    folder = Path(directory)
    try:
        about = json.loads((folder / FILE).read_text("utf-8"))
        task = TASKS[about["kind"]](about["labels"], about["max_length"])
        if isinstance(task, Coding):
            task.chunk, task.threshold = int(about["chunk"]), float(about["threshold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskError(f"{folder}: no fine-tuned model ({type(error).__name__}: {FILE}): give a directory that save_task wrote") from None
    kept = about.get("encoder") or _kept_by(folder)
    if kept is not None and kept not in ENCODERS:
        raise TaskError(f"{folder}: its tokenizer ({kept}) is of a kind that is not imported: import the module that defines it first")
    encoder = AutoTokenizer.from_pretrained(folder, local_files_only=True) if kept is None else ENCODERS[kept](folder)
    with quiet():
        model = _model(task, folder)
    return task, model.eval(), encoder


def _kept_by(folder: Path) -> str | None:
    """The folder inside `folder` by which one of the registered tokenizers is known."""
    return next((inside for inside in ENCODERS if (folder / inside).is_dir()), None)


def _model(task: Task, folder: Path) -> torch.nn.Module:
    options: dict[str, Any] = {"local_files_only": True, "dtype": torch.float32}
    if not (folder / HEAD).is_file():
        auto: Any = AutoModelForTokenClassification if task.kind == "tagging" else AutoModelForSequenceClassification
        found: torch.nn.Module = auto.from_pretrained(folder, **options)
        return found
    head_class = LabelAttentionCoder if task.kind == "coding" else MeanPooledClassifier
    model = head_class(AutoModel.from_pretrained(folder, **options), len(task.labels))
    try:
        missing, unknown = model.load_state_dict(load_file(folder / HEAD), strict=False)
    except (RuntimeError, OSError, SafetensorError) as error:
        raise TaskError(f"{folder / HEAD}: not the head of this model ({str(error).splitlines()[0][:80]}): restore the file") from None
    if unknown or any(not name.startswith("encoder.") for name in missing):
        raise TaskError(f"{folder / HEAD}: not the head of this model: restore the file")
    return model
