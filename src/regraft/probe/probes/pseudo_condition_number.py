"""Pseudo-condition number: the smallest singular value by the largest."""

from regraft.probe.probes.stable_rank import UNSUPERVISED
from regraft.probe.spectrum.metric import SpectrumProbe
from regraft.probe.spectrum.ranks import share
from regraft.probe.spectrum.spectrum import Spectrum


class PseudoConditionNumber(SpectrumProbe):
    r"""Inverse of the condition number.

    :math:`\sigma_{\min} / \sigma_{\max}` over the min(N, K) singular values of Z (N, K), not centred.

    Parameters
    ----------
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; singular values of the rows and not of Z'Z, which tells
        values below :math:`\sqrt{2 \cdot 10^{-16} K}` of the largest not from 0.

    Returns a number from 0 to 1, NaN for rows that are all zero. Raises `InputError` for NaN and infinity.
    """

    paper = UNSUPERVISED
    summary = "smallest singular value by the largest"
    unit = "ratio"
    higher_is_better: bool | None = True
    read = "1: all directions alike; 0: some direction is not used; one unused direction decides it"

    def figure(self, spectrum: Spectrum) -> float:
        return share(spectrum.singular_values[-1], spectrum.singular_values[0])

    def comments(self, spectrum: Spectrum) -> list[str]:
        if spectrum.known is not None or self.figure(spectrum) != 0:
            return []
        return [f"below {spectrum.resolution:.0e}, which a Gram matrix does not resolve: exact=true takes the rows themselves"]
