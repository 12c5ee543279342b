"""Whether two languages share a syntactic subspace: principal angles, and labels learned on top of the other's projection."""

import numpy as np
import torch
from scipy.linalg import subspace_angles

from regraft.probe.probes.ast_probe.examples import Examples
from regraft.probe.probes.ast_probe.probe import SyntaxProbe
from regraft.probe.probes.ast_probe.train import Schedule, Trained, fit


def mean_angle(first: SyntaxProbe, second: SyntaxProbe) -> float:
    """The mean principal angle between the columns of both B, in degrees: 0 for one subspace, 90 for two that share nothing."""
    one, other = (probe.B.detach().double().cpu().numpy() for probe in (first, second))
    return float(np.degrees(subspace_angles(one, other).mean()))


def random_angle(width: int, rank: int, seed: int = 0) -> float:
    """The mean principal angle between two random subspaces of that size, in degrees: what no relation looks like."""
    one, other = np.random.default_rng(seed).normal(size=(2, width, rank))
    return float(np.degrees(subspace_angles(one, other).mean()))


def direct_transfer(
    learned: SyntaxProbe,
    train: Examples,
    valid: Examples,
    sizes: tuple[int, int],
    schedule: Schedule,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Trained:
    """B of another language, frozen, with tables of `sizes` (|C|, |U|) labels trained on this one."""
    probe = SyntaxProbe(learned.B.shape[0], learned.B.shape[1], *sizes, seed=seed)
    with torch.no_grad():
        probe.B.copy_(learned.B)
    return fit(probe, train, valid, schedule, seed=seed, device=device, frozen=True)
