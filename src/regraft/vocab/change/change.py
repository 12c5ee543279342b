"""What surgery on a tokenizer gives back: the new tokenizer, and where each of its tokens comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from regraft.tokenizer.model import Tokenizer

if TYPE_CHECKING:
    from regraft.report import Report


class Companion(Protocol):
    """What some changes bring beside the tokenizer's own files: it saves itself there, and has its say in figures and report."""

    def save_beside(self, folder: Path) -> None:
        """Write its files into the directory of the tokenizer."""

    def measure(self, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Figures on the scored texts, by the name of each."""

    def report(self, report: "Report", texts: Mapping[str, Sequence[str]], figures: Mapping[str, Any]) -> None:
        """Add sections; `figures` is what `measure` found."""


@dataclass(frozen=True)
class Change:
    """A new tokenizer beside the old one.

    Attributes
    ----------
    tokenizer : the new tokenizer.
    source_ids : (new vocab_size,) int64; the old id of each new id, -1 where the token is new or the id is a hole.
    unreachable : new ids that no text was found to produce.
    notes : what the user should know, one line each.
    companion : what belongs beside the tokenizer, or None.
    places : where each old id that files store is now, or None where all are where they were.
    """

    tokenizer: Tokenizer
    source_ids: npt.NDArray[np.int64]
    unreachable: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    companion: Companion | None = None
    places: Mapping[int, int] | None = None

    @cached_property
    def new_ids(self) -> npt.NDArray[np.int64]:
        """Ids that need rows of their own: tokens without a source, holes left out. Shape (m,), ascending."""
        return np.array([i for i in np.flatnonzero(self.source_ids < 0).tolist() if i in self.tokenizer.pieces], dtype=np.int64)


def kept_ids(old: Tokenizer, new: Tokenizer) -> npt.NDArray[np.int64]:
    """`source_ids` of a change that only adds: every old id is its own source."""
    source_ids = np.full(new.vocab_size, -1, dtype=np.int64)
    old_ids = np.fromiter(old.pieces, dtype=np.int64, count=len(old.pieces))
    source_ids[old_ids] = old_ids
    return source_ids
