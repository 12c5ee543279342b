"""The contract of a word model, and what all of them share: fields, tables at their start, one pass over a part of the text.

Enters: `Words`. Leaves: `Weights`, tables by name, and the vectors in them.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from regraft.method import Method, Paper
from regraft.text.words.corpus import Words
from regraft.text.words.kernels.compiled import SMALL

Floats = npt.NDArray[np.float32]
LAI = Paper("How to Generate a Good Word Embedding?", "Lai et al.", 2016, "1507.05523")


@dataclass(frozen=True, eq=False)
class Weights:
    """Tables that learn, and AdaGrad's sum of squares beside each (the table itself where the rate falls linearly)."""

    tables: tuple[Floats, ...]
    squares: tuple[Floats, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """What a pass goes over: rows of `units`, under `rates` (first, last); `state` (1,) is its random state."""

    units: Any
    rates: Floats
    state: npt.NDArray[np.uint64]
    learning: bool


class WordModel(Method):
    r"""Base of the models. Score s(w, c) of a word w in a context c, trained with K words of noise (section 2.1 of the study):

    :math:`L = -\log\sigma(s(w, c)) - \sum_{k=1}^{K} \log\sigma(-s(w_k, c))`, :math:`w_k \sim n^{0.75}`, noise equal to w left out.

    A subclass gives `tables` and `go`. Fields that all have:

    dim : numbers in a vector. window : words to a side, always all of them. negatives : K. t : subsampling threshold, 0 for none.
    epochs : passes. rate : learning rate. optimizer : "adagrad" with a rate that stays, as the study has it, or "linear", plain steps with
    a rate that falls to 0, as word2vec has it. validation : share of each thread's text that is measured and not learned from.

    Returns, after training, a vector (dim,) a word, float32.
    """

    family = "word-model"
    paper: ClassVar[Paper] = LAI

    dim: Annotated[int, Field(ge=1)] = 100
    window: Annotated[int, Field(ge=1, le=50)] = 5
    negatives: Annotated[int, Field(ge=1)] = 5
    t: Annotated[float, Field(ge=0)] = 1e-3
    epochs: Annotated[int, Field(ge=1)] = 5
    rate: Annotated[float, Field(gt=0)] = 0.05
    optimizer: Literal["adagrad", "linear"] = "adagrad"
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.05

    @abstractmethod
    def tables(self, words: Words, random: np.random.Generator) -> tuple[Floats, ...]:
        """Every table at its start; the first is that of the inputs (V, d)."""

    @abstractmethod
    def go(self, words: "Prepared", weights: Weights, part: Part) -> tuple[float, int]:
        """One pass over a part: summed loss and number of terms (0 and 0 while learning)."""

    def start(self, words: Words, seed: int) -> Weights:
        tables = tuple(aligned(table) for table in self.tables(words, np.random.default_rng(seed)))
        adagrad = self.optimizer == "adagrad"
        return Weights(tables, tuple(aligned(np.full_like(table, SMALL)) for table in tables) if adagrad else tables)

    def prepare(self, words: Words) -> "Prepared":
        """What a pass needs beside the weights; `units` is what threads share out."""
        return Prepared(words, words.lines, words.keep(self.t), *words.noise())

    def vectors(self, weights: Weights) -> Floats:
        """One row a word (V, d), the padding included; behind them rows of pieces, where the model has any."""
        return weights.tables[0]

    def piece_names(self, words: Words) -> list[str]:
        """Pieces of words that have vectors of their own."""
        return []

    def run(self, kernel: Any, words: "Prepared", weights: Weights, part: Part, how: tuple[Any, ...]) -> tuple[float, int]:
        """One of the compiled loops over lines."""
        loss, terms = kernel(
            words.words.tokens, part.units, weights.tables, weights.squares, words.keep, words.share, words.other, part.state,
            part.rates, (self.window, self.negatives), (self.optimizer == "adagrad", *how, part.learning),
        )  # fmt: skip
        return float(loss), int(terms)


@dataclass(frozen=True, eq=False)
class Prepared:
    """`words` with `units` to share out among threads, the chance to be kept and the noise of each word."""

    words: Words
    units: Any
    keep: Floats
    share: Floats
    other: npt.NDArray[np.int32]


def uniform(random: np.random.Generator, rows: int, columns: int, scale: float) -> Floats:
    """Numbers in (-0.5, 0.5) / scale."""
    return ((random.random((rows, columns), dtype=np.float32) - np.float32(0.5)) / np.float32(scale)).astype(np.float32)


def zeros(rows: int, columns: int) -> Floats:
    return np.zeros((rows, columns), np.float32)


def aligned(table: Floats) -> Floats:
    """The same numbers where a row's start is a cache line's start if its length allows."""
    room = np.empty(table.size + 16, np.float32)
    first = (-room.ctypes.data % 64) // 4
    placed = room[first : first + table.size].reshape(table.shape)
    placed[:] = table
    return placed
