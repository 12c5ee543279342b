"""IsoScore: how evenly variance is spread over the dimensions of the space."""

from typing import Annotated, Any

import torch
from pydantic import Field

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.probe.spectrum.metric import Dim, SpectrumProbe
from regraft.probe.spectrum.ranks import isoscore
from regraft.probe.spectrum.spectrum import Spectrum


class IsoScore(SpectrumProbe):
    r"""IsoScore (algorithm 1 of the paper), and IsoScore* with `zeta` (Rudman and Eickhoff 2024).

    With v the variances along the principal axes (n = K of them): :math:`\hat v = \sqrt n\, v / \lVert v \rVert`,
    :math:`\delta = \lVert \hat v - 1 \rVert / \sqrt{2 (n - \sqrt n)}`, and the score
    :math:`((n - \delta^2 (n - \sqrt n))^2 - n) / (n (n - 1))`. Some :math:`k = \mathrm{score} \cdot (n - 1) + 1` dimensions are used.
    IsoScore* takes the eigenvalues of :math:`(1 - \zeta) \Sigma + \zeta \Sigma_0`, which is steadier for few rows; :math:`\Sigma_0` is the
    identity times the mean variance unless `shrink_towards` was called with another one.

    Parameters
    ----------
    zeta : the weight of :math:`\Sigma_0`; 0 is IsoScore.
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; singular values of the rows and not of Z'Z.

    Returns a number from 0 (one direction) to 1 (all alike), NaN for rows that are all alike. Raises `InputError` for NaN and infinity.
    Rows are points: the authors' package wants them as columns.
    """

    name = "isoscore"
    paper = Paper("IsoScore: Measuring the Uniformity of Embedding Space Utilization", "Rudman et al.", 2022, "2108.07344")
    summary = "how evenly variance is spread over all dimensions"
    unit = "score"
    higher_is_better: bool | None = True
    read = "0: one direction, 1: all directions alike; about the share of dimensions in use"

    def __init__(self, *, zeta: Annotated[float, Field(ge=0, le=1)] = 0.0, dim: Dim = None, exact: bool = False, **kwargs: Any) -> None:
        super().__init__(dim=dim, exact=exact, **kwargs)
        self.zeta = zeta
        self.target: torch.Tensor | None = None

    def shrink_towards(self, covariance: torch.Tensor) -> "IsoScore":
        """Take this covariance (K, K), such as that of many more rows, for Sigma_0. Raises `ParameterError` if it is not square."""
        if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
            raise ParameterError(f"isoscore: a covariance of shape {tuple(covariance.shape)}: give a square one")
        self.target = covariance.detach().to(torch.float64)
        return self

    def figure(self, spectrum: Spectrum) -> float:
        values = spectrum.eigenvalues
        if self.zeta and self.target is not None:
            if len(self.target) != spectrum.dim:
                raise ParameterError(f"isoscore: Sigma_0 has {len(self.target)} dimensions and the rows {spectrum.dim}")
            mixed = (1 - self.zeta) * spectrum.covariance + self.zeta * self.target.to(spectrum.covariance.device)
            values = torch.linalg.eigvalsh(mixed).clamp(min=0)
        elif self.zeta:
            values = (1 - self.zeta) * values + self.zeta * values.mean()
        return isoscore(values)

    def comments(self, spectrum: Spectrum) -> list[str]:
        return [f"about {self.figure(spectrum) * (spectrum.dim - 1) + 1:.1f} of {spectrum.dim} dimensions in use"]
