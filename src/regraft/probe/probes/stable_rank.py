"""Stable rank: the squared Frobenius norm by the squared spectral norm."""

from regraft.method import Paper
from regraft.probe.spectrum.metric import SpectrumProbe
from regraft.probe.spectrum.ranks import share
from regraft.probe.spectrum.spectrum import Spectrum

UNSUPERVISED = Paper("Unsupervised Embedding Quality Evaluation", "Tsitsulin et al.", 2023, "2305.16562")


class StableRank(SpectrumProbe):
    r"""Stable rank.

    :math:`\lVert Z \rVert_F^2 / \sigma_1^2` of Z (N, K), not centred.

    Parameters
    ----------
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; singular values of the rows and not of Z'Z.

    Returns a number from 1 to the rank, NaN for rows that are all zero. Raises `InputError` for NaN and infinity.
    """

    paper = UNSUPERVISED
    summary = "squared Frobenius norm by squared spectral norm"
    unit = "dimensions"
    higher_is_better: bool | None = True
    read = "higher: no one direction outweighs the rest; a large mean alone brings it near 1"

    def figure(self, spectrum: Spectrum) -> float:
        squares = spectrum.singular_values.square()
        return share(squares.sum(), squares[0])
