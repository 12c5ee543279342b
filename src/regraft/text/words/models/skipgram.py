"""Skip-gram with negative sampling."""

from typing import Literal

import numpy as np

from regraft.method import Paper
from regraft.text.words.corpus import Words
from regraft.text.words.kernels.pairs import pairs
from regraft.text.words.model import Floats, Part, Prepared, Weights, WordModel, uniform, zeros


class SkipGram(WordModel):
    r"""Each context word on its own predicts the target: :math:`s(w, c_i) = e(c_i) \cdot e'(w)`, one term a context word.

    Where vectors have room enough, :math:`e(c) \cdot e'(w)` goes to PMI(c, w) - log K (under the noise that is drawn).

    Parameters
    ----------
    shrink : a random width from 1 to `window` for each target, as word2vec has it; the study reads the whole window. noise : drawn for
        "each" pair, or "shared" by all pairs of a target, which is faster.
    """

    name = "skipgram"
    paper = Paper("Distributed Representations of Words and Phrases and their Compositionality", "Mikolov et al.", 2013, "1310.4546")
    summary = "each word of the window predicts the word in its middle"

    rate: float = 0.025
    shrink: bool = False
    noise: Literal["each", "shared"] = "each"

    def tables(self, words: Words, random: np.random.Generator) -> tuple[Floats, ...]:
        size = len(words.names)
        return uniform(random, size, self.dim, self.dim), zeros(size, self.dim)

    def go(self, words: Prepared, weights: Weights, part: Part) -> tuple[float, int]:
        return self.run(pairs, words, weights, part, (self.shrink, self.noise == "shared"))
