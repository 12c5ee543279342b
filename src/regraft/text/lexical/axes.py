"""What dimensions mean: vectors read on axes between opposites.

Enters: vectors, and pairs of opposites that have vectors. Leaves: one coordinate a pair.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError


def polar(
    rows: npt.ArrayLike, table: Mapping[str, npt.ArrayLike], opposites: Sequence[tuple[str, str]]
) -> tuple[npt.NDArray[np.float64], list[tuple[str, str]]]:
    """Coordinates (n, pairs) of `rows` (n, d) on the axes from the second to the first word of each pair, and the pairs that have vectors.

    POLAR (Mathew et al. 2020, arXiv 2001.09876): least squares, so that axes that lean on each other share what they explain. Of more pairs
    than dimensions the shortest solution is taken. Raises `ParameterError`: no pair with two vectors.
    """
    known = [(a, b) for a, b in opposites if a in table and b in table]
    if not known:
        raise ParameterError("polar: no pair has vectors for both of its words")
    axes = np.stack([np.asarray(table[a], dtype=np.float64) - np.asarray(table[b], dtype=np.float64) for a, b in known])
    found = np.linalg.lstsq(axes.T, np.asarray(rows, dtype=np.float64).T, rcond=None)[0]
    return np.asarray(found.T, dtype=np.float64), known
