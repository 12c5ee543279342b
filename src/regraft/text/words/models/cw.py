"""C&W: a window is scored, not predicted."""

from typing import Annotated

import numpy as np
from pydantic import Field

from regraft.method import Paper
from regraft.text.words.corpus import Words
from regraft.text.words.kernels.scores import scores
from regraft.text.words.model import Floats, Part, Prepared, Weights, WordModel, uniform


class CollobertWeston(WordModel):
    r"""The window with its middle in it: :math:`s(w, c) = v \cdot \tanh(H [e(c_1); \ldots; e(w); \ldots; e(c_{2 \mathrm{win}})])`.

    The word is an input only; there are no output vectors. The loss is the logistic one of all models here, so that they compare; the paper
    has a hinge. v starts as H does (ours).

    Parameters
    ----------
    hidden : numbers in the hidden layer.
    """

    name = "cw"
    paper = Paper("Natural Language Processing (Almost) from Scratch", "Collobert et al.", 2011, "1103.0398")
    summary = "a window scores higher than the same window with a random word in its middle"

    hidden: Annotated[int, Field(ge=1)] = 50

    def tables(self, words: Words, random: np.random.Generator) -> tuple[Floats, ...]:
        shapes = ((self.hidden, 2 * self.window * self.dim), (self.hidden, self.dim), (1, self.hidden))
        return uniform(random, len(words.names), self.dim, self.dim), *(uniform(random, *shape, self.hidden) for shape in shapes)

    def go(self, words: Prepared, weights: Weights, part: Part) -> tuple[float, int]:
        return self.run(scores, words, weights, part, ())
