"""alpha-ReQ: how fast the eigenvalues of the covariance fall."""

from typing import Annotated, Any

from pydantic import Field

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.probe.spectrum.metric import Dim, SpectrumProbe
from regraft.probe.spectrum.ranks import PowerLaw, fit_power_law
from regraft.probe.spectrum.spectrum import Spectrum


class AlphaReQ(SpectrumProbe):
    r"""Exponent of the power law :math:`\lambda_j \propto j^{-\alpha}`.

    A line through :math:`\log \lambda_j = -\alpha \log j + b` over the window :math:`j = \mathtt{first} \dots \mathtt{last}` (1-based, ends
    included), by least squares with weights 1/j, of the eigenvalues of the centred covariance (K, K). Eigenvalues that are 0 are never in
    the window. The paper's window is not certain (Stringer's method; the authors' scripts end it near 50): the first ones are dropped here
    and the end is an option.

    Parameters
    ----------
    first : the first index of the window. Default 5; 1 where K is below 20.
    last : its last index. Default 50, or K where K is smaller.
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; singular values of the rows and not of Z'Z.

    Returns alpha, without a unit, NaN where fewer than three eigenvalues lie in the window. Raises `ParameterError` for an empty window.
    """

    name = "alpha-req"
    paper = Paper("alpha-ReQ: Assessing Representation Quality in Self-Supervised Learning", "Agrawal et al.", 2022,
                  url="https://openreview.net/forum?id=ii9X4vtZGTZ")  # fmt: skip
    summary = "exponent by which the covariance's eigenvalues fall"
    unit = "exponent"
    higher_is_better: bool | None = None
    read = "best near 1 by the paper: far below is noise, far above collapse; as a selector it can pick collapsed runs"

    def __init__(
        self,
        *,
        first: Annotated[int, Field(ge=1)] | None = None,
        last: Annotated[int, Field(ge=3)] | None = None,
        dim: Dim = None,
        exact: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dim=dim, exact=exact, **kwargs)
        if first is not None and last is not None and last < first + 2:
            raise ParameterError(f"alpha-req: a window from {first} to {last} has fewer than three eigenvalues: widen it")
        self.first, self.last = first, last

    def fit(self, spectrum: Spectrum) -> PowerLaw | None:
        """The line, its window and R squared; None where there are fewer than three eigenvalues in the window."""
        first = self.first or (5 if spectrum.dim >= 20 else 1)
        return fit_power_law(spectrum.eigenvalues, first, self.last or min(50, spectrum.dim))

    def figure(self, spectrum: Spectrum) -> float:
        found = self.fit(spectrum)
        return float("nan") if found is None else found.alpha

    def comments(self, spectrum: Spectrum) -> list[str]:
        found = self.fit(spectrum)
        return [] if found is None else [f"eigenvalues {found.first} to {found.last}, R² {found.r2:.3f}"]
