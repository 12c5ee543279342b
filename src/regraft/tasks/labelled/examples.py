"""Labelled examples: what a task trains on and is measured by, whatever file it came from.

Enters: sentences with a tag a word, or texts with labels, for training and for testing. Leaves: `LabelledData`, checked, with the share of
the training examples that a learning curve asks for.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from regraft.corpus.documents import document_digest, split_key
from regraft.errors import TaskError

Kind = Literal["tagging", "coding", "classification"]
KINDS: tuple[Kind, ...] = ("tagging", "coding", "classification")
OUTSIDE = "O"
FEWEST = 2  # training examples; one alone shows a model nothing to tell apart


@dataclass(frozen=True)
class Tagged:
    """One sentence in words, with the tag of each: O, B-Drug, I-Drug."""

    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(tag for tag in self.tags if tag != OUTSIDE)


@dataclass(frozen=True)
class Labelled:
    """One text with its labels: exactly one in classification, any number in coding."""

    text: str
    labels: tuple[str, ...]


Example = Tagged | Labelled


@dataclass(frozen=True)
class LabelledData:
    """Examples to train on and to measure by.

    Attributes
    ----------
    name : what the user calls it.
    kind : "tagging", "coding" (any number of labels a text) or "classification" (exactly one).
    train, test : examples; none is in both unless the user's files say so.
    notes : what the user should know, one line each.

    Raises `TaskError`: no examples, no labels, fewer than two classes, or a test side that shares no label with the training side.
    """

    name: str
    kind: Kind
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for side, examples in (("training", self.train), ("test", self.test)):
            if not examples:
                raise TaskError(f"{self.name}: no {side} examples: give more labelled documents, or a file of them for each side")
            if not any(example.labels for example in examples):
                raise TaskError(f"{self.name}: no labels among the {len(examples)} {side} examples: check the label column or the tags")
        if self.kind == "classification" and len(self.labels) < 2:
            raise TaskError(f"{self.name}: every text is labelled '{self.labels[0]}': classification needs at least two labels")
        known = set(self.labels)
        if not any(known.intersection(example.labels) for example in self.test):
            some = next(label for example in self.test for label in example.labels)
            raise TaskError(
                f"{self.name}: the test side shares no label with the training side ('{some}' against '{self.labels[0]}'): "
                "do the two files belong together?"
            )

    @cached_property
    def labels(self) -> list[str]:
        """Labels (in tagging: tags other than O) of the training side, sorted."""
        return sorted({label for example in self.train for label in example.labels})

    @property
    def unseen(self) -> list[str]:
        """Labels of the test side that training never shows: they can only be missed."""
        return sorted({label for example in self.test for label in example.labels} - set(self.labels))

    def size(self, share: float) -> int:
        """Training examples at `share`. Raises `TaskError` where that is fewer than two."""
        count = math.floor(share * len(self.train) + 0.5)
        if count < FEWEST:
            least = math.ceil((FEWEST - 0.5) / share)
            raise TaskError(
                f"{self.name}: {100 * share:g} % of {len(self.train)} labelled training examples is fewer than {FEWEST}: "
                f"label at least {least}, or leave that share out (--shares)"
            )
        return count

    def order(self, seed: int) -> list[int]:
        """Positions of the training examples as `seed` shuffles them: a larger share holds the smaller ones."""
        return [int(i) for i in np.random.default_rng(seed).permutation(len(self.train))]

    def sha256(self) -> str:
        """Hash of all examples, in order."""
        found = hashlib.sha256(f"{self.kind}\0{len(self.train)}".encode())
        for example in (*self.train, *self.test):
            found.update(repr(example).encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Counts, for a table."""
        return {
            "task": self.name,
            "kind": self.kind,
            "training examples": len(self.train),
            "test examples": len(self.test),
            "labels": len(self.labels),
            "unseen labels": len(self.unseen),
        }


def split_by_hash(examples: Sequence[Example], held_out: float) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Training and test side by the hash of each text, so that copies of a text are on one side and new texts move none."""
    border = held_out * 2**64
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[split_key(document_digest(example.text.encode("utf-8", "surrogatepass"))) < border].append(example)
    return tuple(sides[0]), tuple(sides[1])
