"""What is asked of each class: our jobs as a user would run them, and what a user would otherwise do.

Enters: a class name and an empty folder. Leaves: "right", or what went wrong, for each job.
"""

import shutil
from pathlib import Path
from typing import Any

from every_family import judge, toys
from every_family.classes import build

NEW = 5
TEXT = "the cat sat on the mat and a rat ran"
JOBS = ("extend", "replace", "trim", "evaluate")
PEERS = ("resize_token_embeddings",)


def run_class(name: str, kind: str, folder: Path, jobs: tuple[str, ...] = (*JOBS, *PEERS)) -> dict[str, str]:
    """Job -> "right", "wrong: ...", "refused: ...", "crash: ...", or "-" where it does not apply; "build" alone if there is no model."""
    algorithm = toys.kind_for(name)
    tokenizer = toys.toy(algorithm)
    source = folder / "source"
    try:
        build(name, kind, len(tokenizer), len(tokenizer) - toys.EXTRA).save_pretrained(source)
        tokenizer.save_pretrained(source)
        opened = judge.Opened(source, judge.model_class(name))
        opened.outputs(tokenizer(TEXT).input_ids)
    except Exception as error:
        return {"build": judge._line(error)}
    (folder / "corpus.txt").write_text(toys.corpus(), "utf-8")
    (folder / "few.txt").write_text(toys.few(), "utf-8")
    (folder / "text.txt").write_text(TEXT, "utf-8")
    toys.toy(algorithm, toys.OTHER, extra_first=True).save_pretrained(folder / "other")
    asked: dict[str, Any] = {
        "extend": lambda: adapted(opened, folder, "extend", corpus=[folder / "corpus.txt"], extend=NEW),
        "replace": lambda: adapted(opened, folder, "replace", corpus=[folder / "corpus.txt"], replace=folder / "other"),
        "trim": lambda: adapted(opened, folder, "trim", corpus=[folder / "few.txt"], trim=True),
        "evaluate": lambda: evaluated(opened, folder, kind),
        "resize_token_embeddings": lambda: resized(opened, folder),
    }
    return {job: attempt(asked[job]) for job in jobs}


def attempt(job: Any) -> str:
    from regraft.errors import InputError

    try:
        fault = job()
    except InputError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"crash: {judge._line(error)}"
    return "right" if fault is None else fault if fault == "-" else f"wrong: {fault}"


def adapted(source: judge.Opened, folder: Path, job: str, **change: Any) -> str | None:
    from regraft.vocab.adapt import adapt

    adapt(source.folder, out=folder / job, score=False, **change)
    return judge.fault(source, folder / job, new_text=judge.new_text() if job == "extend" else None)


def evaluated(source: judge.Opened, folder: Path, kind: str) -> str | None:
    """Only what gives text a likelihood of its own is asked."""
    from regraft.evaluation.checkpoint import evaluate

    if kind == "sequence-to-sequence" or getattr(source.model.config, "is_encoder_decoder", False):
        return "-"
    masked = kind == "masked" or (not source.is_causal() and type(source.model).__name__ in judge.MASKED)
    truth = judge.bits_per_byte(source, TEXT, masked)
    _, figures = evaluate(source.folder, [folder / "text.txt"])
    found = figures["bits_per_byte"]
    return None if abs(found - truth) <= 1e-4 * max(1.0, truth) else f"{found:.4f} bits per byte, by plain forward passes {truth:.4f}"


def resized(source: judge.Opened, folder: Path) -> str | None:
    """New words with `add_tokens`, rows with `resize_token_embeddings`, then `save_pretrained`."""
    out = folder / "resized"
    model = type(source.model).from_pretrained(source.folder)
    shutil.copytree(source.folder, out, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    tokenizer = judge.open_tokenizer(source.folder)
    tokenizer.add_tokens(toys.DOMAIN[:NEW])
    try:
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    except Exception as error:
        return f"does not resize: {judge._line(error)}"
    return judge.fault(source, out, new_text=" ".join(toys.DOMAIN[:NEW]))
