"""What was learned: a concept that goes into a pipeline and comes out again, is saved and read.

A kind of concept (rows of a word, rows behind the text tower, a mapper, weights of the U-Net) is one file in `kinds/`.
"""

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from regraft.concepts.host.pipeline import Conditioning, encode
from regraft.concepts.host.words import Rows, joined, spliced
from regraft.errors import CheckpointError

FACTS = "concept.json"
KINDS = {  # what `concept.json` says: the module below `kinds` with the class of that kind
    "word": "word:WordConcept",
    "finetuned": "finetuned:FinetunedConcept",
    "adapter": "adapter:AdapterConcept",
    "mapper": "mapper:MapperConcept",
    "output-rows": "output_rows:OutputRows",
}


class Concept(ABC):
    """A taught concept.

    Attributes
    ----------
    kind : its key in `KINDS`. word : what a prompt calls it.
    """

    kind: ClassVar[str]
    word: str

    def words(self) -> Mapping[str, Rows]:
        """Rows of new words that prompts with this concept need, by word and tower."""
        return {}

    def installed(self, pipeline: Any) -> AbstractContextManager[Any]:
        """The pipeline with what else the concept changes in it, as a context that gives it back as it was."""
        return ExitStack()

    def conditioned(self, pipeline: Any, prompts: Sequence[str], context: Conditioning) -> Conditioning:
        """`context` as the U-Net is to read it for these prompts."""
        return context

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Put tensors into `folder`, in formats that other programs load where there are such."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What `read` needs beside the tensors, as plain data."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> "Concept":
        """What `write` wrote."""

    def save(self, folder: Path) -> None:
        """Write it with its facts into a folder that exists."""
        self.write(folder)
        (folder / FACTS).write_text(json.dumps({"kind": self.kind, "word": self.word, **self.facts()}, indent=1) + "\n", encoding="utf-8")


@contextmanager
def together(pipeline: Any, concepts: Sequence[Concept]) -> Iterator[Any]:
    """The pipeline with all of `concepts` in it."""
    with ExitStack() as stack:
        stack.enter_context(spliced(pipeline, joined([one.words() for one in concepts])))
        for one in concepts:
            stack.enter_context(one.installed(pipeline))
        yield pipeline


def context_of(pipeline: Any, concepts: Sequence[Concept], prompts: Sequence[str]) -> Conditioning:
    """What the U-Net reads of prompts in a pipeline that has `concepts` in it."""
    context = encode(pipeline, prompts)
    for one in concepts:
        context = one.conditioned(pipeline, prompts, context)
    return context


def load_concept(path: str | Path, word: str | None = None) -> Concept:
    """A concept from its directory, or a file of learned rows by diffusers, ComfyUI or A1111. Raises `CheckpointError`."""
    place = Path(path)
    if place.is_file():
        kind = "mapper" if place.name.startswith("mapper") else "word"  # as NeTI's code calls its files
        return _class(kind).read_file(place, word)  # type: ignore[attr-defined,no-any-return]
    if not (place / FACTS).is_file():
        raise CheckpointError(f"{path}: no concept there (no {FACTS}, and not a .safetensors file of learned rows)")
    try:
        facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
        return _class(facts["kind"]).read(place, facts)
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{place / FACTS}: not a concept that can be read ({type(error).__name__}: {error})") from None


def _class(kind: str) -> type[Concept]:
    module, _, name = KINDS[kind].partition(":")
    found: type[Concept] = getattr(importlib.import_module(f"regraft.concepts.kinds.{module}"), name)
    return found
