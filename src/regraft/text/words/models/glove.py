"""GloVe: vectors whose products are logarithms of counts."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse

from regraft.method import Paper
from regraft.text.words.corpus import Words
from regraft.text.words.kernels.counts import counts
from regraft.text.words.model import Floats, Part, Prepared, Weights, WordModel, aligned, uniform, zeros

PAIRED = 2_000_000  # words whose pairs are counted at a time


class Glove(WordModel):
    r"""Weighted least squares on counts X of words that stand together, a pair at distance j counting 1/j:

    :math:`L = \frac12 \sum_{ij} f(X_{ij}) (w_i \cdot c_j + b_i + \tilde b_j - \log X_{ij})^2`,
    :math:`f(x) = \min(1, (x / x_{\max})^\alpha)`.

    Skip-gram with a softmax minimises :math:`\sum_i X_i \, \mathrm{CE}(P_i \| Q_i)`; with the squared error of unnormalised logarithms in
    place of the cross entropy, and f(X) in place of the row's weight, it is this. Both factorise PMI; the biases and the weights differ.

    Parameters
    ----------
    x_max, exponent : of f. output : "sum" of w and c, or "words", w alone. t : frequent words' counts are scaled by sqrt(r) + r,
        r = tT/n, where that is below 1. negatives, optimizer : not used; the rate is AdaGrad's, whose sums start at 1.
    """

    name = "glove"
    paper = Paper("GloVe: Global Vectors for Word Representation", "Pennington et al.", 2014, url="https://aclanthology.org/D14-1162")
    summary = "products of vectors go to logarithms of counts of words that stand together"

    t: Annotated[float, Field(ge=0)] = 1e-4
    epochs: Annotated[int, Field(ge=1)] = 25
    optimizer: Literal["adagrad"] = "adagrad"
    x_max: Annotated[float, Field(gt=0)] = 100.0
    exponent: Annotated[float, Field(gt=0)] = 0.75
    output: Literal["sum", "words"] = "sum"

    def tables(self, words: Words, random: np.random.Generator) -> tuple[Floats, ...]:
        size = len(words.names)
        sides = (uniform(random, size, self.dim, self.dim), uniform(random, size, self.dim, self.dim))
        return *sides, zeros(size, 1), zeros(size, 1)

    def start(self, words: Words, seed: int) -> Weights:
        tables = tuple(aligned(table) for table in self.tables(words, np.random.default_rng(seed)))
        return Weights(tables, tuple(aligned(np.ones_like(table)) for table in tables))

    def prepare(self, words: Words) -> Prepared:
        """Counted pairs in a random order that is the same each time."""
        found = count_pairs(words, self.window)
        amounts = found.data * (words.keep(self.t)[found.row] if self.t else 1)
        order = np.random.default_rng(0).permutation(len(amounts))
        units = Pairs(found.row[order].astype(np.int32), found.col[order].astype(np.int32), amounts[order].astype(np.float32))
        return Prepared(words, units, words.keep(0), *words.noise())

    def go(self, words: Prepared, weights: Weights, part: Part) -> tuple[float, int]:
        units = part.units
        loss, terms = counts(
            units.rows, units.columns, units.amounts, weights.tables, weights.squares, np.float32(self.rate),
            np.float32(self.x_max), np.float32(self.exponent), part.learning,
        )  # fmt: skip
        return float(loss), int(terms)

    def vectors(self, weights: Weights) -> Floats:
        return weights.tables[0] + weights.tables[1] if self.output == "sum" else weights.tables[0]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Counted pairs; slices as an array does, so that threads share them out."""

    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    amounts: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: slice) -> "Pairs":
        return Pairs(self.rows[at], self.columns[at], self.amounts[at])


def count_pairs(words: Words, window: int) -> sparse.coo_matrix:
    """How often words stand together within `window`, each pair weighing 1 / distance, both ways; shape (V, V)."""
    size = len(words.names)
    total = sparse.csr_matrix((size, size), dtype=np.float64)
    line = np.repeat(np.arange(len(words.lines)), words.lines[:, 1] - words.lines[:, 0])
    tokens = np.concatenate([words.tokens[a:b] for a, b in words.lines])
    for first in range(0, len(tokens), PAIRED):
        for distance in range(1, window + 1):
            left, right = tokens[first : first + PAIRED], tokens[first + distance : first + PAIRED + distance]
            left = left[: len(right)]
            same = line[first : first + len(left)] == line[first + distance : first + distance + len(right)]
            met = sparse.coo_matrix((np.full(int(same.sum()), 1 / distance), (left[same], right[same])), shape=(size, size))
            total = total + met.tocsr()
    return (total + total.T).tocoo()
