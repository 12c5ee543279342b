"""LBL: the log-bilinear model."""

from typing import Annotated

import numpy as np
from pydantic import Field

from regraft.method import Paper
from regraft.text.words.corpus import Words
from regraft.text.words.kernels.windows import LINEAR, windows
from regraft.text.words.model import Floats, Part, Prepared, Weights, WordModel, uniform, zeros


class Lbl(WordModel):
    r"""The window through a matrix predicts its middle: :math:`h = H [e(c_1); \ldots; e(c_{2 \mathrm{win}})]`, :math:`s = h \cdot e'(w)`.

    The study predicts the middle from both sides, where the paper predicts the next word, and uses noise in place of a softmax.

    Parameters
    ----------
    hidden : numbers in h, the width of the output vectors.
    """

    name = "lbl"
    paper = Paper(
        "Three New Graphical Models for Statistical Language Modelling",
        "Mnih and Hinton",
        2007,
        url="https://doi.org/10.1145/1273496.1273577",
    )
    summary = "the window through a linear layer predicts the word in its middle"

    hidden: Annotated[int, Field(ge=1)] = 50

    def tables(self, words: Words, random: np.random.Generator) -> tuple[Floats, ...]:
        size = len(words.names)
        layer = uniform(random, self.hidden, 2 * self.window * self.dim, self.hidden)
        return uniform(random, size, self.dim, self.dim), zeros(size, self.hidden), layer

    def go(self, words: Prepared, weights: Weights, part: Part) -> tuple[float, int]:
        return self.run(windows, words, weights, part, (False, True, True, LINEAR))
