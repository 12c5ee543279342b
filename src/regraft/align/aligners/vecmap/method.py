"""VecMap as an estimator."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field

from regraft.align.aligners.vecmap.learning import Schedule, self_learn, spectral_start
from regraft.align.aligners.vecmap.transforms import Recipe, both_maps
from regraft.align.linear import Ids, LinearAligner, Spaces, Steps
from regraft.errors import RowsError
from regraft.method import Paper


class VecMap(LinearAligner):
    r"""Maps of both sides in steps, with or without self-learning (Artetxe et al., AAAI 2018, section 3, and ACL 2018).

    On the pairs' rows X and Z: (1) whiten each side, :math:`T = V S^{-1} V^\top` of its SVD; (2) rotate both,
    :math:`(X T_x)^\top Z T_z = U S V^\top`, by *U* and *V*; (3) weigh dimensions by :math:`S^r`; (4) take the whitening back,
    :math:`U^\top T_x^{-1} U` and :math:`V^\top T_z^{-1} V`; (5) keep the first dimensions. With fewer pairs than dimensions, what no
    pair spans is lost by (1).

    Self-learning: from pairs on, Procrustes, then each word's best partner by CSLS as the next pairs, in both directions, each score
    dropped with a probability that falls; steps (1) to (5) follow on the last pairs. Without pairs, it starts from words whose sorted rows
    of :math:`(X X^\top)^{1/2}` are alike.

    Parameters
    ----------
    mode : "supervised" (the given pairs); "semi-supervised" (self-learning from them); "unsupervised" (self-learning from none:
        ``fit(source=..., target=...)``).
    steps : what is done to the rows of either space first; see `procrustes`.
    whiten : "whiten-dewhiten" takes steps (1) and (4), "whiten" only (1), "none" neither. With "none" and ``reweight=0`` both sides are
        only turned, as `procrustes` does.
    reweight : *r* of step (3); 0 leaves it out.
    dimensions : how many step (5) keeps; None keeps all.
    csls : neighbours of CSLS in self-learning.
    vocabulary_cutoff : self-learning looks at so many most frequent words of either side; 0 for all.
    unsupervised_vocab : words that a start from no pairs looks at.
    stochastic : the probability with which a score is kept at first; what it grows by, up to 1; after how many iterations without a rise of
        `threshold`.
    threshold : the least rise of the objective that counts.
    max_iterations : of self-learning, should it go on for ever.
    seed : draws what is dropped.

    Returns rows in a space of its own (m, r): compare them with `transform_target` of the other side. `history_` has the objective of each
    iteration.
    """

    name = "vecmap"
    paper = Paper(
        "A robust self-learning method for fully unsupervised cross-lingual mappings of word embeddings",
        "Artetxe et al.",
        2018,
        "1805.06297",
    )
    summary = "maps of both sides: whiten, rotate, re-weight, de-whiten; self-learning"
    fitted = ("map", "target_map", "source_mean", "target_mean", "history")

    def __init__(
        self,
        *,
        mode: Literal["supervised", "semi-supervised", "unsupervised"] = "supervised",
        steps: Steps = "unit-center-unit",
        whiten: Literal["whiten-dewhiten", "whiten", "none"] = "whiten-dewhiten",
        reweight: Annotated[float, Field(ge=0)] = 0.5,
        dimensions: Annotated[int, Field(ge=1)] | None = None,
        csls: Annotated[int, Field(ge=1)] = 10,
        vocabulary_cutoff: Annotated[int, Field(ge=0)] = 20_000,
        unsupervised_vocab: Annotated[int, Field(ge=1)] = 4_000,
        stochastic: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=1)], Annotated[int, Field(ge=1)]] = (0.1, 2.0, 50),
        threshold: Annotated[float, Field(ge=0)] = 1e-6,
        max_iterations: Annotated[int, Field(ge=1)] = 1_000,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.mode, self.steps, self.whiten, self.reweight, self.dimensions = mode, steps, whiten, reweight, dimensions
        self.csls, self.vocabulary_cutoff, self.unsupervised_vocab = csls, vocabulary_cutoff, unsupervised_vocab
        self.stochastic, self.threshold, self.max_iterations, self.seed = stochastic, threshold, max_iterations, seed

    def fit(self, X: Any = None, y: Any = None, *, source: Any = None, target: Any = None, pairs: Any = None) -> Self:
        """As `LinearAligner.fit`; X, y and pairs are left out where the mode is "unsupervised"."""
        if self.mode == "unsupervised" and X is None and y is None and source is not None and target is not None:
            rows = [int(np.any(table != 0, axis=1).argmax()) for table in (source, target)]  # any rows: they are not looked at as pairs
            X, y, pairs = source[rows[0] : rows[0] + 1], target[rows[1] : rows[1] + 1], np.array([rows])
        return super().fit(X, y, source=source, target=target, pairs=pairs)

    def learn(self, spaces: Spaces) -> None:
        pairs, history = spaces.pairs, list[float]()
        if self.mode != "supervised":
            pairs, history = self._self_learned(spaces)
        recipe = Recipe(self.whiten, self.reweight, self.dimensions)
        self.map_, self.target_map_ = both_maps(*spaces.sides(pairs), recipe)
        self.history_ = np.array(history)

    def _self_learned(self, spaces: Spaces) -> tuple[Ids, list[float]]:
        cut = self.vocabulary_cutoff or None
        left, right = spaces.source[:cut], spaces.target[:cut]
        if self.mode == "unsupervised":
            pairs = spectral_start(left[: self.unsupervised_vocab], right[: self.unsupervised_vocab], self.csls)
        else:
            pairs = spaces.pairs[(spaces.pairs < (len(left), len(right))).all(1)]
        if not len(pairs):
            raise RowsError(f"{self.name}: no given pair is among the {cut} most frequent words: raise vocabulary_cutoff")
        schedule = Schedule(self.csls, *self.stochastic, self.threshold, self.max_iterations)
        return self_learn(left, right, pairs, schedule, self.seed)
