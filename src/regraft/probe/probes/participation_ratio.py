"""Participation ratio: a rank without a decomposition."""

from regraft.method import Paper
from regraft.probe.spectrum.metric import SpectrumProbe
from regraft.probe.spectrum.ranks import share
from regraft.probe.spectrum.spectrum import Spectrum


class ParticipationRatio(SpectrumProbe):
    r"""Participation ratio of the covariance.

    :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2 = \mathrm{tr}(C)^2 / \lVert C \rVert_F^2` with C the centred covariance of Z (N, K).

    Parameters
    ----------
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; singular values of the rows and not of Z'Z.

    Returns a number from 1 to K, NaN for rows that are all alike. Raises `InputError` for NaN and infinity.
    """

    paper = Paper("A Theory of Multineuronal Dimensionality, Dynamics and Measurement", "Gao et al.", 2017,
                  url="https://www.biorxiv.org/content/10.1101/214262v2")  # fmt: skip
    summary = "squared sum of the covariance's eigenvalues by the sum of squares"
    unit = "dimensions"
    higher_is_better: bool | None = True
    read = "higher: variance is spread over more directions; it forgets small eigenvalues sooner than RankMe does"

    def figure(self, spectrum: Spectrum) -> float:
        return share(spectrum.eigenvalues.sum().square(), spectrum.eigenvalues.square().sum())
