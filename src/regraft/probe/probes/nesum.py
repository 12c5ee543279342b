"""NESum: the sum of eigenvalues by the largest."""

from regraft.method import Paper
from regraft.probe.spectrum.metric import SpectrumProbe
from regraft.probe.spectrum.ranks import share
from regraft.probe.spectrum.spectrum import Spectrum


class NESum(SpectrumProbe):
    r"""Normalized eigenvalue sum.

    :math:`\sum_i \lambda_i / \lambda_1` over the eigenvalues of the centred covariance (divisor N - 1) of Z (N, K).

    Parameters
    ----------
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; singular values of the rows and not of Z'Z.

    Returns a number from 1 to K, NaN for rows that are all alike. Raises `InputError` for NaN and infinity.
    """

    name = "nesum"
    paper = Paper("Exploring the Gap between Collapsed & Whitened Features in Self-Supervised Learning", "He and Ozay", 2022,
                  url="https://proceedings.mlr.press/v162/he22c.html")  # fmt: skip
    summary = "sum of the covariance's eigenvalues by the largest"
    unit = "dimensions"
    higher_is_better: bool | None = True
    read = "higher: variance is spread over more directions; one strong direction alone makes it small"

    def figure(self, spectrum: Spectrum) -> float:
        return share(spectrum.eigenvalues.sum(), spectrum.eigenvalues[0])
