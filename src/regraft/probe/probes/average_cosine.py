"""Average cosine: how far all rows point one way."""

import math

from regraft.method import Paper
from regraft.probe.spectrum.metric import SpectrumProbe
from regraft.probe.spectrum.spectrum import Spectrum


class AverageCosine(SpectrumProbe):
    r"""Mean cosine of two different rows, over all pairs.

    :math:`(\lVert \sum_i \hat z_i \rVert^2 - N) / (N (N - 1))` with :math:`\hat z_i` of length 1. Rows of zeros have no direction and are
    left out.

    Parameters
    ----------
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; whether rows are kept, which changes nothing here.

    Returns a number from -1 / (N - 1) to 1, NaN for fewer than two rows with a direction. Raises `InputError` for NaN and infinity.
    """

    paper = Paper("How Contextual are Contextualized Word Representations?", "Ethayarajh", 2019, "1909.00512")
    summary = "mean cosine of two different rows"
    unit = "cosine"
    higher_is_better: bool | None = False
    of = "directions"
    read = "0: no common direction, 1: all point one way; taking off the mean undoes it, so it says little of rank"

    def figure(self, spectrum: Spectrum) -> float:
        n, empty = spectrum.rows - spectrum.moments.empty, spectrum.moments.empty
        if n < 2:
            return float("nan")
        total = spectrum.moments.total
        if empty:  # they were counted along (1, ..., 1)
            total = total - empty / math.sqrt(spectrum.dim)
        return float((total.square().sum() - n) / (n * (n - 1)))
