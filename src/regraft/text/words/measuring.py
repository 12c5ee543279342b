"""Word vectors on the family's tasks: a text is the mean of its words' vectors; a random table of the same size is the baseline.

PGR, the performance gain ratio of vectors beside the best: :math:`(p - p_{rand}) / (p_{best} - p_{rand}) \\cdot 100`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regraft.text.tasks.task import Encode, Role, Task
from regraft.text.words.corpus import Words
from regraft.vectors.tokens import Vectors
from regraft.vectors.training import WORD

Floats = np.ndarray
FEWEST = 10  # documents of a task with known words below which its figure says nothing


def table(words: Words, vectors: Floats) -> Vectors:
    """`vectors` (V, d) by word, without the padding."""
    return Vectors(words.names[1:], np.asarray(vectors[1:], dtype=np.float32), words.counts[1:].astype(np.float64), name="trained vectors")


def mean_of_words(vectors: Vectors, *, lowercase: bool = True, cut: str = "letters") -> Encode:
    """Texts as the mean of the vectors of their known words, (n, d); zero for a text without one."""

    def encode(texts: Sequence[str], role: Role) -> Floats:
        split = WORD.findall if cut == "letters" else str.split
        listed = [[vectors.index[w] for w in split(t.lower() if lowercase else t) if w in vectors.index] for t in texts]
        rows = np.zeros((len(texts), vectors.dim), np.float32)
        for number, one in enumerate(listed):
            if one:
                rows[number] = vectors.matrix[one].mean(0)
        return rows

    return encode


@dataclass(frozen=True)
class Coverage:
    """How many documents (pairs, questions, texts) of a task have words that are known, of how many."""

    task: str
    known: int
    documents: int

    @classmethod
    def of(cls, task: Task, encode: Encode) -> "Coverage":
        texts = list(dict.fromkeys(text for one in task.needed for text in one))
        has = {text: bool(row.any()) for text, row in zip(texts, encode(texts, "text"), strict=True)}
        return cls(task.name, sum(all(has[text] for text in one) for one in task.needed), task.documents)

    @property
    def enough(self) -> bool:
        return self.known >= FEWEST

    @property
    def note(self) -> str:
        return f"{self.task}: not scored, words of {self} are known, and {FEWEST} are the fewest that say anything: give more text"

    def __str__(self) -> str:
        return f"{self.known:,} of {self.documents:,}"


def random_vectors(words: Words, dim: int, seed: int = 0) -> Floats:
    """A random table (V, d), the study's lower end."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (len(words.names), dim)).astype(np.float32)


def performance_gain_ratio(value: float, lowest: float, best: float) -> float | None:
    """100 for the best, 0 for random vectors; None where the best is random too."""
    return None if best <= lowest else 100 * (value - lowest) / (best - lowest)
