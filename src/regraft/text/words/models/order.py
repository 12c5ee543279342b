"""Order: CBOW that knows where each word of the window stands."""

import numpy as np

from regraft.text.words.corpus import Words
from regraft.text.words.kernels.windows import windows
from regraft.text.words.model import Floats, Part, Prepared, Weights, WordModel, uniform, zeros


class Order(WordModel):
    r"""The window's vectors one after the other predict its middle: :math:`x = [e(c_1); \ldots; e(c_{2 \mathrm{win}})]`,
    :math:`s = x \cdot e'(w)` with :math:`e'(w) \in R^{2 \mathrm{win} d}`. No hidden layer. Slots outside the line hold the padding word.
    """

    summary = "the window's vectors in their order predict the word in its middle"

    def tables(self, words: Words, random: np.random.Generator) -> tuple[Floats, ...]:
        size = len(words.names)
        return uniform(random, size, self.dim, self.dim), zeros(size, 2 * self.window * self.dim), zeros(1, 1)

    def go(self, words: Prepared, weights: Weights, part: Part) -> tuple[float, int]:
        return self.run(windows, words, weights, part, (False, True, True, 0))
