"""Coherence: whether some rows alone hold a direction."""

import torch

from regraft.probe.probes.stable_rank import UNSUPERVISED
from regraft.probe.spectrum.spectrum import Spectrum
from regraft.probe.spectrum.two_pass import TwoPassProbe


class Coherence(TwoPassProbe):
    r"""Coherence of the left singular vectors.

    :math:`\max_i \lVert U_i \rVert^2 \cdot N / r` with U (N, r) the left singular vectors of Z (N, K) whose singular value is not 0; r is
    min(N, K) unless Z has a lower rank. U is never made: :math:`\lVert U_i \rVert^2 = \lVert z_i V \Sigma^{-1} \rVert^2`, which takes a
    second pass over the rows. As a metric it keeps the rows for that; `measure` on a file reads the file twice.

    Returns a number from 1 (no row stands out) to N / r, NaN for rows that are all zero. Raises `InputError` for NaN and infinity. It has
    no interval: a largest value has none by drawing rows again.
    """

    paper = UNSUPERVISED
    summary = "how far the most telling row stands out"
    unit = "ratio"
    higher_is_better: bool | None = False
    smooth = False
    read = "1: no row stands out; N / rank: some direction is one row's alone; lower is better"

    def second(self, block: torch.Tensor, spectrum: Spectrum) -> torch.Tensor:
        vectors, values = spectrum.vectors
        if not len(values):
            return block.new_full((1,), float("nan"))
        return (block @ (vectors / values)).square().sum(1).max().reshape(1)

    def combine(self, parts: torch.Tensor) -> torch.Tensor:
        return parts.max(0).values

    def figure(self, part: torch.Tensor, spectrum: Spectrum) -> float:
        return float(part[0]) * spectrum.rows / max(len(spectrum.vectors[1]), 1)

    def comments(self, spectrum: Spectrum) -> list[str]:
        rank = len(spectrum.vectors[1])
        return [] if rank == spectrum.most else [f"of the {rank} left singular vectors whose singular value is not 0"]
