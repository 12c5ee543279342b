"""The contract of the family: a checkpoint enters, one of another size leaves.

A method says in `grow` how; what it may learn from stands in `Context`. What it writes is an ordinary checkpoint that `transformers` opens.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psutil

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.errors import OutputError, ParameterError
from regraft.language.loading import load_model
from regraft.method import Method
from regraft.output import free_space
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a method may learn from, and how long.

    Attributes
    ----------
    corpus : text; methods that need none never ask. steps : the budget of those that learn before they grow, in optimizer steps.
    gene : where a learned gene is kept (see `regraft.grow.depth.gene`); None keeps none. seed : of all that is random.
    state : where the state of a method's training is kept, to go on from after a kill.
    device, dtype : where and how the model runs ("auto": float32 on a CPU, else the checkpoint's own).
    notes : what the user should know of the result; methods add to it.
    """

    corpus: Corpus | None = None
    steps: int = 200
    gene: Path | None = None
    state: Path | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str = "auto"
    notes: list[str] = field(default_factory=list)

    def texts(self, asked_by: str) -> list[str]:
        """Training documents of the corpus. Raises `ParameterError` where none was given."""
        if self.corpus is None:
            raise ParameterError(f"{asked_by} learns from text: give some with --corpus")
        return list(self.corpus.documents("train"))

    def live(self, source: Checkpoint) -> tuple[Any, Any]:
        """The model and its tokenizer as `transformers` has them, fresh."""
        return load_model(source, self.dtype, self.device), load_tokenizer(Tokenizer.from_directory(source.path))


def check_room(asked: str, needed: int, parameters: int, out: Path, context: Context) -> None:
    """Raise an error unless the disk of `out` has room for a model of `needed` bytes, and memory where text is scored on this machine.

    `asked` : the option that made it so large. Raises `OutputError`, `ParameterError`.
    """
    free = free_space(out)
    if needed > free:
        raise OutputError(
            f"{asked}: the model would be {needed / 1e9:,.1f} GB, and {out} has {free / 1e9:,.1f} GB left: ask for less, or another disk"
        )
    loaded = parameters * (2 if context.dtype in ("bfloat16", "float16") else 4)
    memory = psutil.virtual_memory().available
    if context.corpus is not None and context.device == "cpu" and loaded > memory:
        raise ParameterError(
            f"{asked}: the model would take {loaded / 1e9:,.1f} GB of memory to be scored, and {memory / 1e9:,.1f} GB are free: ask for "
            "less, or leave --corpus out"
        )


@dataclass(frozen=True)
class Grown:
    """What a method made.

    Attributes
    ----------
    out : the directory.
    new : names, as `transformers` has them in memory, of parameters that hold something new; what a short training may be kept to.
    facts : figures for the report and regraft.json.
    """

    out: Path
    new: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Grower(Method):
    """Base of every method that makes a checkpoint of another size.

    Attributes
    ----------
    learns : whether it trains before it grows, so that `Context.steps` is its budget.
    """

    learns: ClassVar[bool] = False

    def check(self, source: Checkpoint, size: Any, out: Path, context: Context) -> None:
        """Raise `ParameterError` or `OutputError` for a size that cannot be had, before any work."""

    def said(self, size: Any) -> str:
        """`size` in words, for reports."""
        return str(size)

    @abstractmethod
    def grow(self, source: Checkpoint, size: Any, out: Path, context: Context) -> Grown:
        """Write `source` at `size` to `out`, which appears whole or not at all.

        Raises `ParameterError` for a size that cannot be had, with the nearest ones; `CheckpointError` for an architecture that cannot be
        grown so.
        """

    def open(self, grown: Path, context: Context) -> Any:
        """The live model of a directory that `grow` wrote."""
        return load_model(Checkpoint.open(grown), context.dtype, context.device)
