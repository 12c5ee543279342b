"""RankMe: how many directions a representation uses, as a smooth number."""

from typing import Annotated, Any

from pydantic import Field

from regraft.method import Paper
from regraft.probe.spectrum.metric import Dim, SpectrumProbe
from regraft.probe.spectrum.ranks import exponential_entropy
from regraft.probe.spectrum.spectrum import Spectrum


class RankMe(SpectrumProbe):
    r"""Exponential of the entropy of singular values (section 3 of the paper).

    :math:`p_k = \sigma_k / \lVert \sigma \rVert_1 + \epsilon`, :math:`\mathrm{RankMe}(Z) = \exp(-\sum_{k=1}^{\min(N,K)} p_k \log p_k)`. Z
    (N, K) is taken as it is: neither centred nor scaled. The paper takes embeddings (what the loss sees, behind the projector) on the data
    that the model was trained on, some 25,600 rows, and compares runs of one method with one K.

    Parameters
    ----------
    epsilon : the paper's constant, added after the division, so that the p sum to a little more than 1.
    center : take the singular values of Z minus its mean instead: another number, for tables and models with one large mean.
    dim, exact : as for every measure of the spectrum: K, where it is known ahead; singular values of the rows and not of Z'Z.

    Returns a number from 1 to min(N, K), NaN for rows that are all zero. Raises `InputError` for NaN and infinity.
    """

    name = "rankme"
    paper = Paper(
        "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their Rank",
        "Garrido et al.",
        2023,
        "2210.02885",
    )
    summary = "effective rank: exponential of the entropy of singular values"
    unit = "dimensions"
    higher_is_better: bool | None = True
    read = "higher: less collapsed; compare only runs of one method and one K; white noise has a high rank too"

    def __init__(
        self,
        *,
        epsilon: Annotated[float, Field(ge=0, lt=1)] = 1e-7,
        center: bool = False,
        dim: Dim = None,
        exact: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dim=dim, exact=exact, **kwargs)
        self.epsilon, self.center = epsilon, center

    def figure(self, spectrum: Spectrum) -> float:
        values = spectrum.eigenvalues.sqrt()[: spectrum.most] if self.center else spectrum.singular_values
        return exponential_entropy(values, self.epsilon)

    def comments(self, spectrum: Spectrum) -> list[str]:
        if spectrum.rows > spectrum.dim:
            return []
        return [f"{self.figure(spectrum) / spectrum.most:.3f} of the {spectrum.most} dimensions that so few rows can have"]
