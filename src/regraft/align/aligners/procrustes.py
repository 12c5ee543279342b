"""Procrustes: the rotation that brings paired points closest."""

from regraft.align.aligner import Floats
from regraft.align.linear import LinearAligner, Spaces, Steps
from regraft.method import Paper
from regraft.vectors.alignment import orthogonal_procrustes


class Procrustes(LinearAligner):
    r"""Orthogonal map of least squares (Schönemann 1966; Conneau et al. 2018, section 2).

    :math:`\min_{W^\top W = I} \lVert X W - Y \rVert_F` has :math:`W = U V^\top` with :math:`X^\top Y = U S V^\top`; a row x goes to
    :math:`x W`. Where the dimensions differ, *W* has the first *r* columns of *U* and *V*, *r* the smaller: what lies outside is lost.

    Parameters
    ----------
    steps : what is done to the rows of either space first: "none"; "unit" (length 1); "unit-center-unit" (length 1, minus the mean over
        the table, or over the rows given to `fit` where no table is, length 1 again). The means are kept and taken off rows that come
        later.

    Returns rows of the second space (m, e), after the same steps: of length at most 1 unless `steps` is "none".
    """

    paper = Paper("Word Translation Without Parallel Data", "Conneau et al.", 2018, "1710.04087")
    summary = "the rotation that brings paired points closest"

    def __init__(self, *, steps: Steps = "unit-center-unit") -> None:
        self.steps = steps

    def learn(self, spaces: Spaces) -> None:
        self.map_ = orthogonal_procrustes(*spaces.sides())

    @property
    def rotation_(self) -> Floats:
        """`map_` by its own name, (d, e)."""
        return self.map_
