r"""The five steps of a map of both sides (Artetxe et al. AAAI 2018, section 3): whiten, rotate, re-weight, de-whiten, cut.

Enters: paired rows of either side. Leaves: one matrix a side.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
NOTHING = 1e-10  # singular values below this share of the largest are directions in which no pair points


@dataclass(frozen=True)
class Recipe:
    """Which steps are taken; see `VecMap`."""

    whiten: Literal["whiten-dewhiten", "whiten", "none"]
    reweight: float
    dimensions: int | None


def both_maps(x: Doubles, z: Doubles, recipe: Recipe) -> tuple[Doubles, Doubles]:
    """Matrices (d, r) and (e, r) for the two sides, from paired rows x (k, d) and z (k, e)."""
    (white_x, color_x), (white_z, color_z) = (
        (np.eye(rows.shape[1]),) * 2 if recipe.whiten == "none" else whitening(rows) for rows in (x, z)
    )
    u, s, vt = np.linalg.svd((x @ white_x).T @ (z @ white_z), full_matrices=False)
    left, right = white_x @ u, white_z @ vt.T
    weight = np.where(s > NOTHING * s[0], s, 0.0) ** recipe.reweight if recipe.reweight else np.ones_like(s)
    left, right = left * weight, right * weight
    if recipe.whiten == "whiten-dewhiten":
        left, right = left @ (u.T @ color_x @ u), right @ (vt @ color_z @ vt.T)
    return left[:, : recipe.dimensions], right[:, : recipe.dimensions]


def whitening(rows: Doubles) -> tuple[Doubles, Doubles]:
    r""":math:`V S^{-1} V^\top` of rows (k, d) with :math:`U S V^\top`, and its inverse; both 0 in directions that the rows do not span."""
    _, s, vt = np.linalg.svd(rows, full_matrices=False)
    spanned = s > NOTHING * s[0]
    s, vt = s[spanned], vt[spanned]
    return (vt.T / s) @ vt, (vt.T * s) @ vt
