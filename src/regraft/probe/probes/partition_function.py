"""Isotropy by the partition function: whether some direction gets more of the softmax's mass than another."""

import math

import torch

from regraft.method import Paper
from regraft.probe.spectrum.spectrum import Spectrum
from regraft.probe.spectrum.two_pass import TwoPassProbe


class PartitionFunction(TwoPassProbe):
    r"""Isotropy by the partition function (section 2 of the paper).

    :math:`\min_c F(c) / \max_c F(c)` with :math:`F(c) = \sum_i \exp(c^\top z_i)` over the eigenvectors c of :math:`Z^\top Z`, taken with
    either sign, for the sign of an eigenvector means nothing. In logarithms throughout. It takes a second pass over the rows (N, K): as a
    metric it keeps them; `measure` on a file reads the file twice. It depends on the scale of Z.

    Returns a number from 0 to 1 (isotropic). Raises `InputError` for NaN and infinity.
    """

    paper = Paper("All-but-the-Top: Simple and Effective Postprocessing for Word Representations", "Mu and Viswanath", 2018, "1702.01417")
    summary = "smallest by largest partition function over the eigenvectors"
    unit = "ratio"
    higher_is_better: bool | None = True
    read = "1: no direction is preferred, 0: one outweighs all; it depends on the scale of the rows: compare like with like"

    def second(self, block: torch.Tensor, spectrum: Spectrum) -> torch.Tensor:
        vectors, values = spectrum.vectors
        along = block @ vectors
        found = [torch.logsumexp(along, 0), torch.logsumexp(-along, 0)]
        if len(values) < spectrum.dim:  # directions in which every row is 0: exp(0) from each
            found.append(block.new_full((1,), math.log(len(block))))
        return torch.cat(found)

    def combine(self, parts: torch.Tensor) -> torch.Tensor:
        return torch.logsumexp(parts, 0)

    def figure(self, part: torch.Tensor, spectrum: Spectrum) -> float:
        return float(torch.exp(part.min() - part.max()))
