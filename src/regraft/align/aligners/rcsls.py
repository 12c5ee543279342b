"""RCSLS: a map trained on what retrieval is scored by."""

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from regraft.align.aligner import Floats
from regraft.align.linear import LinearAligner, Spaces, Steps
from regraft.align.nearest import Neighbours, nearest
from regraft.method import Paper
from regraft.progress import progress_bar
from regraft.vectors.alignment import orthogonal_procrustes

Doubles = npt.NDArray[np.float64]
SMALLEST = 1e-4  # rate below which it stops


class Point(NamedTuple):
    """A map, its loss, and the gradient there."""

    map: Doubles
    loss: float
    gradient: Doubles


class RCSLS(LinearAligner):
    r"""Relaxed CSLS as a loss (Joulin et al. 2018, section 3).

    With :math:`W` (d, e), row vectors, pairs :math:`(x_i, z_i)`, and the k nearest of a point by inner product in the whole other table,

    .. math::
        L(W) = \frac{1}{n} \sum_i \Big[ -2 x_i W z_i^\top + \frac{1}{k} \sum_{z \in N_Z(x_i W)} x_i W z^\top
               + \frac{1}{k} \sum_{x \in N_X(z_i)} x W z_i^\top \Big].

    Sums of the k largest of linear functions are convex in *W*, and so is the relaxed problem. From Procrustes on, each iteration goes a
    step of length *lr* against the gradient (neighbours held still); where the loss rose, the step is taken back and *lr* halved; at
    :math:`lr < 10^{-4}` it stops.

    Parameters
    ----------
    steps : what is done to the rows of either space first; see `procrustes`. The authors': "unit", centring left open.
    lr : length of a step. The authors' examples take 25, others 10 or 1; one that is too long costs iterations, not the map.
    niter : iterations, steps that were taken back included.
    k : neighbours (the paper's 10).
    maxneg : neighbours are looked for among so many first rows of either table.
    batch : pairs that an iteration draws; 0 takes all. With fewer, nothing is taken back, as in the authors' code.
    spectral : singular values of *W* are cut to at most 1 after each step, the convex hull of the rotations. Without, the paper finds
        better translations.
    seed : draws batches.

    Returns rows of the second space (m, e), to be compared by cosine. `history_` has the loss of each map that was kept.
    """

    paper = Paper("Loss in Translation: Learning Bilingual Word Mapping with a Retrieval Criterion", "Joulin et al.", 2018, "1804.07745")
    summary = "a map trained on the criterion of retrieval, from Procrustes on"
    fitted = ("map", "source_mean", "target_mean", "history")

    def __init__(
        self,
        *,
        steps: Steps = "unit",
        lr: Annotated[float, Field(gt=0)] = 1.0,
        niter: Annotated[int, Field(ge=0)] = 10,
        k: Annotated[int, Field(ge=1)] = 10,
        maxneg: Annotated[int, Field(ge=1)] = 200_000,
        batch: Annotated[int, Field(ge=0)] = 0,
        spectral: bool = False,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.steps = steps
        self.lr, self.niter, self.k, self.maxneg, self.batch, self.spectral, self.seed = lr, niter, k, maxneg, batch, spectral, seed

    def learn(self, spaces: Spaces) -> None:
        generator, lr = np.random.default_rng(self.seed), self.lr
        now = self.point(spaces, orthogonal_procrustes(*spaces.sides()))
        history = [now.loss]
        with progress_bar("RCSLS", total=self.niter, unit="iterations") as bar:
            for _ in range(self.niter):
                if lr < SMALLEST:
                    break
                if 0 < self.batch < len(spaces.pairs):
                    some = Spaces(spaces.source, spaces.target, generator.permutation(spaces.pairs)[: self.batch])
                    now = self.point(some, self._stepped(self.point(some, now.map), lr))
                    history.append(now.loss)
                else:
                    other = self.point(spaces, self._stepped(now, lr))
                    if other.loss > now.loss:
                        lr /= 2
                    else:
                        now = other
                        history.append(now.loss)
                bar.say(f"loss {now.loss:.4f}, lr {lr:g}")
                bar.advance()
        self.map_, self.history_ = now.map, np.array(history)

    def _stepped(self, point: Point, lr: float) -> Doubles:
        after = point.map - lr * point.gradient
        if not self.spectral:
            return after
        u, s, vt = np.linalg.svd(after, full_matrices=False)
        return np.asarray((u * np.minimum(s, 1.0)) @ vt)

    def point(self, spaces: Spaces, weights: Doubles) -> Point:
        """Loss and gradient of the map `weights` (d, e), neighbours looked for anew."""
        x, z = spaces.sides()
        sources, targets = spaces.source[: self.maxneg], spaces.target[: self.maxneg]
        left, of_left = np.unique(spaces.pairs[:, 0], return_inverse=True)  # a word with several translations is looked for once
        right, of_right = np.unique(spaces.pairs[:, 1], return_inverse=True)
        forth = nearest(spaces.source[left] @ weights, targets, self.k)
        back = nearest(spaces.target[right], sources @ weights, self.k)
        near_targets, near_sources = mean_rows(targets, forth)[of_left], mean_rows(sources, back)[of_right]
        mapped, pull = x @ weights, near_targets - 2 * z
        loss = (np.einsum("ij,ij->", mapped, pull) + np.einsum("ij,ij->", near_sources @ weights, z)) / len(x)
        return Point(weights, float(loss), np.asarray((x.T @ pull + near_sources.T @ z) / len(x)))


def mean_rows(table: Floats, found: Neighbours) -> Doubles:
    """Mean of the rows of `table` (m, d) that are each row's neighbours, (n, d) in float64; zeros where there are none."""
    total = np.zeros((len(found.ids), table.shape[1]))
    for column in found.ids.T:
        total += np.where(column[:, None] >= 0, table[np.maximum(column, 0)], 0.0)
    return np.asarray(total / max(1, found.ids.shape[1]))
