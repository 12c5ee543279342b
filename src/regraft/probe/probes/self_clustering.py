"""Self-clustering: how much closer directions lie than they would by chance."""

from regraft.probe.probes.stable_rank import UNSUPERVISED
from regraft.probe.spectrum.metric import SpectrumProbe
from regraft.probe.spectrum.spectrum import Spectrum


class SelfClustering(SpectrumProbe):
    r"""Self-clustering.

    With :math:`\hat z_i` of length 1 (after adding 1e-12), :math:`A = \sum_{ij} \langle \hat z_i, \hat z_j \rangle^2 =
    \lVert \hat Z^\top \hat Z \rVert_F^2` and :math:`E = N + N (N - 1) / K` what it is for directions by chance:
    :math:`(A - E) / (N^2 - E)`. Nothing N x N is made.

    Parameters
    ----------
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; whether rows are kept, which changes nothing here.

    Returns a number: near 0 by chance, 1 for rows on one line, NaN for one row or one column. Raises `InputError` for NaN and infinity.
    """

    paper = UNSUPERVISED
    summary = "how much more directions cluster than by chance"
    unit = "score"
    higher_is_better: bool | None = False
    of = "directions"
    read = "0: as by chance, 1: all on one line; lower is better"

    def figure(self, spectrum: Spectrum) -> float:
        n, k = spectrum.rows, spectrum.dim
        chance = n + n * (n - 1) / k
        if n < 2 or k < 2:
            return float("nan")
        return float((spectrum.moments.gram.square().sum() - chance) / (n * n - chance))
