"""Refined Procrustes: a map finds a larger dictionary, which gives a better map."""

from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from regraft.align.aligner import Floats
from regraft.align.linear import Ids, LinearAligner, Spaces, Steps
from regraft.align.nearest import Neighbours, Retrieval, mutual, unit_float32
from regraft.method import Paper
from regraft.progress import progress_bar
from regraft.vectors.alignment import orthogonal_procrustes

FREQUENT = 10_000  # source words whose best matches the criteria without pairs are means of
Criterion = Literal["precision", "mean-csls", "mean-cosine"]


class Step(NamedTuple):
    """A map, what was found with it, and its value by the criterion."""

    map: Floats
    space: Retrieval
    forth: Neighbours
    back: Neighbours
    value: float


class RefinedProcrustes(LinearAligner):
    r"""Procrustes on pairs that it finds itself, again and again (Conneau et al. 2018, section 2.2).

    From :math:`W_0` of the given pairs on, each iteration takes words that are each other's best by
    :math:`\mathrm{CSLS}(x, z) = 2 \cos(x W, z) - r_T(x) - r_S(z)` as pairs and solves for :math:`W_{t+1} = U V^\top` on them. The map with
    the best criterion is kept, :math:`W_0` among them, so refining never lowers the criterion.

    Parameters
    ----------
    steps : what is done to the rows of either space first; see `procrustes`.
    iterations : how often (the paper's 5).
    max_rank : pairs are looked for, and maps judged, among so many most frequent words of either side; 0 for all. MUSE's code looks for
        partners beyond them too and drops those pairs afterwards.
    k : neighbours of the terms of CSLS (the paper's 10).
    threshold : a pair must have a CSLS above it; None takes all. MUSE's code holds its own against the margin to the second best.
    criterion : "precision" (P@1 by CSLS over pairs that are held out of those given); "mean-csls" (mean CSLS of the best matches of the
        10,000 most frequent source words); "mean-cosine" (the same pairs, their cosines: MUSE's code).
    validation : share of the source words of the given pairs that is held out for "precision"; where that is none, "mean-csls" is taken.
    seed : draws them.

    Returns rows of the second space (m, e), after the same steps. `history_` has the criterion of each map, the first that of :math:`W_0`.
    """

    paper = Paper("Word Translation Without Parallel Data", "Conneau et al.", 2018, "1710.04087")
    summary = "Procrustes on pairs that it finds itself, the best map kept"
    fitted = ("map", "source_mean", "target_mean", "history")

    def __init__(
        self,
        *,
        steps: Steps = "unit-center-unit",
        iterations: Annotated[int, Field(ge=0)] = 5,
        max_rank: Annotated[int, Field(ge=0)] = 10_000,
        k: Annotated[int, Field(ge=1)] = 10,
        threshold: float | None = 0.0,
        criterion: Criterion = "precision",
        validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.steps = steps
        self.iterations, self.max_rank, self.k, self.threshold = iterations, max_rank, k, threshold
        self.criterion, self.validation, self.seed = criterion, validation, seed

    def learn(self, spaces: Spaces) -> None:
        trained, held = self._carved(spaces)
        best = now = self._judged(spaces, orthogonal_procrustes(*spaces.sides(trained)), held)
        history = [now.value]
        with progress_bar("refining", total=self.iterations, unit="maps") as bar:
            for _ in range(self.iterations):
                pairs = mutual(now.forth, now.back)
                if self.threshold is not None:
                    pairs = pairs[now.forth.scores[pairs[:, 0], 0] > self.threshold]
                if not len(pairs):
                    break
                now = self._judged(spaces, orthogonal_procrustes(*spaces.sides(pairs)), held)
                history.append(now.value)
                best = now if now.value > best.value else best
                bar.say(f"criterion {now.value:.3f} from {len(pairs):,} pairs")
                bar.advance()
        self.map_, self.history_ = best.map, np.array(history)

    def _carved(self, spaces: Spaces) -> tuple[Ids, Ids]:
        """The given pairs without and with the source words that are held out; a held word is one that can be found."""
        pairs, rank = spaces.pairs, self.max_rank or max(len(spaces.source), len(spaces.target))
        findable = np.unique(pairs[(pairs < rank).all(1), 0])
        share = self.validation if self.criterion == "precision" else 0.0
        count = min(round(share * len(findable)), len(spaces.words) - 1)
        words = np.random.default_rng(self.seed).permutation(findable)[:count]
        held = np.isin(pairs[:, 0], words)
        return pairs[~held], pairs[held]

    def _judged(self, spaces: Spaces, rotation: Floats, held: Ids) -> Step:
        rank = self.max_rank or None
        space = Retrieval(unit_float32(spaces.source[:rank] @ rotation), unit_float32(spaces.target[:rank]), self.k)
        forth, back = space.best_both()
        if len(held):
            gold = {(int(a), int(b)) for a, b in held}
            value = float(np.mean([(word, int(forth.ids[word, 0])) in gold for word in np.unique(held[:, 0]).tolist()]))
        else:
            found = np.flatnonzero(forth.ids[:FREQUENT, 0] >= 0)
            scores = forth.scores[found, 0]
            if self.criterion == "mean-cosine":
                scores = np.einsum("ij,ij->i", space.left[found], space.right[forth.ids[found, 0]], dtype=np.float64)
            value = float(scores.mean()) if len(found) else 0.0
        return Step(rotation, space, forth, back, value)
