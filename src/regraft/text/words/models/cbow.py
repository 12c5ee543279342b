"""CBOW with negative sampling."""

import numpy as np

from regraft.method import Paper
from regraft.text.words.corpus import Words
from regraft.text.words.kernels.windows import windows
from regraft.text.words.model import Floats, Part, Prepared, Weights, WordModel, uniform, zeros


class Cbow(WordModel):
    r"""The mean of the window predicts its middle:

    :math:`x = \frac{1}{2 \mathrm{win}} \sum_i e(c_i)`, :math:`s = x \cdot e'(w)`.

    Parameters
    ----------
    shrink : a random width from 1 to `window` for each target. padded : slots outside the line hold the padding word and count, as in the
        study; else the mean is over the words that are there, as in word2vec.
    """

    name = "cbow"
    paper = Paper("Efficient Estimation of Word Representations in Vector Space", "Mikolov et al.", 2013, "1301.3781")
    summary = "the mean of the window predicts the word in its middle"

    shrink: bool = False
    padded: bool = True

    def tables(self, words: Words, random: np.random.Generator) -> tuple[Floats, ...]:
        size = len(words.names)
        return uniform(random, size, self.dim, self.dim), zeros(size, self.dim), zeros(1, 1)

    def go(self, words: Prepared, weights: Weights, part: Part) -> tuple[float, int]:
        return self.run(windows, words, weights, part, (self.shrink, self.padded, False, 0))
