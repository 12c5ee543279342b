"""Words and their characters learned together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from regraft.method import Paper
from regraft.text.words.corpus import Words, alias_table
from regraft.text.words.kernels.joint import joint
from regraft.text.words.model import Floats, Part, Prepared, Weights, WordModel, uniform, zeros

Cut = Callable[[str], Sequence[str]]


@dataclass(frozen=True, eq=False)
class Pieces:
    """`names` (P,) of all pieces; `ids` of all words' pieces one word after the other, V + place in `names`; `begin` (V + 1,)."""

    names: list[str]
    ids: npt.NDArray[np.int64]
    begin: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, words: Words, cut: Cut) -> "Pieces":
        """Pieces of every word by `cut` (characters, by default); the padding has none."""
        split = [[], *(list(cut(word)) for word in words.names[1:])]
        names = sorted({piece for one in split for piece in one})
        place = {name: number for number, name in enumerate(names)}
        ids = np.array([place[piece] for one in split for piece in one], dtype=np.int64)
        lengths = [len(one) for one in split]
        counts = np.bincount(ids, np.repeat(words.counts, lengths), len(names)).astype(np.int64) if names else np.zeros(0, np.int64)
        return cls(names, ids + len(words.names), np.concatenate([[0], np.cumsum(lengths)]), counts)


class CharWord(WordModel):
    r"""CBOW that predicts the middle word and each of its characters, from the same context vectors (the thesis, chapter on Chinese):

    :math:`L = L_w(x) + \sum_k L_{z_k}(x_k)`, x the mean of the context words' vectors, :math:`x_k` the mean of those and of the characters
    next to :math:`z_k` in the word. Words and characters have noise of their own. That both losses weigh 1, and that neighboring characters
    are in :math:`x_k` by a mean, is inferred; `beside` 0 leaves the characters out.

    Parameters
    ----------
    beside : pieces to a side. pieces : "characters", or in Python a function from a word to the list of its pieces, of any kind.

    The pieces' vectors stand behind those of the words, in the order of their names.
    """

    paper = Paper("Word and Document Embeddings based on Neural Network Approaches", "Lai", 2016, "1611.05962")
    summary = "the window predicts its middle word and that word's characters, in one space"

    beside: Annotated[int, Field(ge=0)] = 1
    pieces: Literal["characters"] | Callable[[str], Any] = "characters"

    def cut(self, words: Words) -> Pieces:
        return Pieces.of(words, list if self.pieces == "characters" else self.pieces)

    def piece_names(self, words: Words) -> list[str]:
        return self.cut(words).names

    def tables(self, words: Words, random: np.random.Generator) -> tuple[Floats, ...]:
        size = len(words.names) + len(self.cut(words).names)
        return uniform(random, size, self.dim, self.dim), zeros(size, self.dim)

    def prepare(self, words: Words) -> Prepared:
        plain, pieces = super().prepare(words), self.cut(words)
        weights = np.maximum(pieces.counts, 1) ** 0.75 if pieces.names else np.ones(1)
        return Joined(plain.words, plain.units, plain.keep, plain.share, plain.other, pieces, alias_table(weights / weights.sum()))

    def go(self, words: Prepared, weights: Weights, part: Part) -> tuple[float, int]:
        assert isinstance(words, Joined)
        loss, terms = joint(
            words.words.tokens, part.units, weights.tables, weights.squares, words.keep, (words.share, words.other, *words.piece_noise),
            (words.pieces.ids, words.pieces.begin), part.state, part.rates, (self.window, self.beside, self.negatives),
            (self.optimizer == "adagrad", part.learning),
        )  # fmt: skip
        return float(loss), int(terms)


@dataclass(frozen=True, eq=False)
class Joined(Prepared):
    """The same, with the pieces of every word and their noise."""

    pieces: Pieces
    piece_noise: tuple[Floats, npt.NDArray[np.int32]]
