"""CLP-Transfer: a new token is mixed from all shared tokens, as near as they are to it in a small model of the target language."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from regraft.errors import ParameterError
from regraft.graft import Graft, Rows
from regraft.graft.similarity import Floats, has_vector, unit_rows
from regraft.method import Paper
from regraft.vectors.tokens import donor_vectors
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.mixing.fallback import Ids, complete, empty_rows, over_old
from regraft.vocab.mixing.uncovered import report_uncovered

DENSE_WEIGHTS = 20_000_000  # beyond this many weights (240 MB) the rows are computed block by block
LARGEST_SUM = 10.0  # of a row's absolute weights, which add to 1 with their signs: beyond it the row is the difference of two large sums


class ClpTransfer(Initializer):
    r"""Cross-lingual progressive transfer: :math:`e_t = \sum_{o \in O} w_o E_o`.

    :math:`w_o = \cos(a_t, a_o) / \sum_{o'} \cos(a_t, a_{o'})`. *a* are the input rows of ``--donor``, a small model of the target
    language with the wanted tokenizer; *O* are all tokens that old and new tokenizer and donor have. Tokens that both tokenizers have are
    copied before any method runs. Weights are nearly equal, so rows lie close to the mean of the shared rows; where cosines are negative,
    so are weights, and rows leave the convex hull. The paper leaves an untied head alone; here its rows are mixed with the same weights.

    Parameters
    ----------
    clip : take negative cosines as 0, which keeps rows inside the convex hull.

    Tokens that the donor lacks, or whose cosines cancel out (absolute weights adding to more than 10), take the mean of their old pieces.
    Returns a graft of shape (new tokens, old tokens) with rows that sum to 1; every weight is non-zero, so beyond 20 million weights it
    returns the same rows without the map, in memory that grows with the tables only. Raises `ParameterError` when the donor shares no token
    with both tokenizers, or has none of the new ones.
    """

    paper = Paper(
        "Efficient Language Model Training through Cross-Lingual and Progressive Transfer Learning", "Ostendorff & Rehm", 2023, "2301.09626"
    )
    summary = "mixed from all shared tokens by cosine in a small target-language model"
    needs: ClassVar[tuple[str, ...]] = ("donor",)
    separate_head: ClassVar[bool] = True

    clip: bool = False

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        vectors, anchors, rows = context.remember(repr(self), lambda: self._anchors(target, context))
        old_ids = target.source_ids[anchors]
        queries, keys = unit_rows(vectors[target.ids[rows]]), unit_rows(vectors[anchors])
        shape = (len(target), source.vocab_size)
        if len(rows) * len(anchors) <= DENSE_WEIGHTS:
            scores, known = self._weights(queries, keys)
            weights = over_old(sparse.csr_matrix(scores), rows[known], old_ids, shape)
            self._report(empty_rows(weights), target, context)
            return complete(weights, target)
        started, known = self._blocks(source, target, queries, keys, rows, old_ids)
        self._report(np.setdiff1d(np.arange(len(target)), rows[known]), target, context)
        return started

    def _anchors(self, target: Target, context: Context) -> tuple[Floats, Ids, Ids]:
        """Donor vectors of the new vocabulary, the ids of its anchors, and the rows of `target` that have a vector."""
        donor = context.aids.need("donor", self.name)
        vectors = donor_vectors(donor, target.tokenizer)
        usable = has_vector(vectors)
        special = np.zeros(len(usable), dtype=bool)
        special[list(target.tokenizer.special_ids)] = True
        anchors = np.flatnonzero((target.source_ids >= 0) & usable & ~special)
        if not len(anchors):
            raise ParameterError(f"{self.name}: {donor} shares no token with both tokenizers: give a donor with the new tokenizer")
        return vectors, anchors, np.flatnonzero(usable[target.ids])

    def _weights(self, queries: Floats, keys: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Weights of the queries whose cosines do not cancel out, shape (known, anchors), and which these are."""
        scores = (queries @ keys.T).astype(np.float64)
        if self.clip:
            scores = np.maximum(scores, 0)
        sums, absolute = scores.sum(axis=1), np.abs(scores).sum(axis=1)
        known = (sums > 0) & (absolute <= LARGEST_SUM * sums)
        return scores[known] / sums[known, None], known

    def _report(self, missing: Ids, target: Target, context: Context) -> None:
        lacking = f"{self.name}: {context.aids.donor} has no row, or one whose cosines cancel out,"
        report_uncovered(missing, target, context, lacking, "give a donor with the new tokenizer")

    def _blocks(
        self, source: Source, target: Target, queries: Floats, keys: Floats, rows: Ids, old_ids: Ids
    ) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """The same rows without their map, a block of tokens at a time, and which of the queries have weights."""
        started = complete(sparse.csr_matrix((len(target), source.vocab_size)), target)
        values = started.apply(source.table)
        table = source.table[torch.from_numpy(old_ids)].double()
        bias = None if source.bias is None else source.bias[torch.from_numpy(old_ids)].double()
        new_bias = None if source.bias is None else started.apply(source.bias)
        size = max(1, DENSE_WEIGHTS // (4 * len(keys)))
        found = np.zeros(len(rows), dtype=bool)
        for start in range(0, len(rows), size):
            weights, known = self._weights(queries[start : start + size], keys)
            found[start : start + size] = known
            mixing, where = torch.from_numpy(weights), torch.from_numpy(rows[start : start + size][known])
            values[where] = (mixing @ table).to(values.dtype)
            if new_bias is not None and bias is not None:
                new_bias[where] = (mixing @ bias).to(new_bias.dtype)
        return Rows(values, new_bias, origin="combined"), found
