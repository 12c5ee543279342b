"""Least squares: the plain linear map from one space to another, free to stretch."""

import numpy as np

from regraft.align.linear import LinearAligner, Spaces, Steps
from regraft.method import Paper


class LeastSquares(LinearAligner):
    r"""Linear map of least squares (Mikolov et al. 2013, section 4), the baseline that orthogonal maps are measured beside.

    :math:`\min_W \lVert X W - Y \rVert_F`; of several minima, as with fewer pairs than dimensions, the *W* of least norm. A row x goes to
    :math:`x W`.

    Parameters
    ----------
    steps : what is done to the rows of either space first: "none" (the paper's), "unit" or "unit-center-unit"; see `procrustes`.

    Returns rows of the second space (m, e).
    """

    paper = Paper("Exploiting Similarities among Languages for Machine Translation", "Mikolov et al.", 2013, "1309.4168")
    summary = "the plain linear map, free to stretch"

    def __init__(self, *, steps: Steps = "unit-center-unit") -> None:
        self.steps = steps

    def learn(self, spaces: Spaces) -> None:
        self.map_ = np.linalg.lstsq(*spaces.sides(), rcond=None)[0]
