"""OMP: a new token's place among shared tokens is read off a donor model and rebuilt from the old rows of the same tokens."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse

from regraft.errors import ParameterError
from regraft.graft import Graft
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.omp.pursuit import matching_pursuit
from regraft.vocab.mixing.donor import Bridge, Donor
from regraft.vocab.mixing.fallback import empty_rows
from regraft.vocab.mixing.uncovered import report_uncovered


class OMP(Initializer):
    r"""Orthogonal matching pursuit over the tokens that donor and model share.

    With the donor's rows :math:`D_o` of the shared tokens as atoms, k times: take the atom of largest :math:`|\langle r, D_o\rangle|`, then
    :math:`r = x - \sum_o w_o D_o` with least-squares weights over the atoms taken; the new row is :math:`e = \sum_o w_o E_o`. Input rows
    come from the donor's input table and head rows from its head. Tokens that the donor lacks, or whose donor's row no atom helps to
    rebuild, take the mean of their old pieces.

    Parameters
    ----------
    k : atoms a token, >= 1 and at most the number of shared tokens; fewer are used where they reproduce the donor's row.
    atoms : "raw" as published (long rows are favored), or "normalized" (the choice is by angle, scikit-learn's convention).
    weights : "signed" as published; "non_negative" takes positively correlated atoms only and keeps every weight >= 0; "convex" also
        divides by their sum, so that the row lies in the convex hull of the old rows.
    magikarp : do not build on shared tokens that are under-trained in the donor or in the model (`regraft.tokenizer.undertrained`).

    Needs --donor. Returns a graft of shape (new tokens, old tokens). Raises `ParameterError` where k is larger than the shared tokens.
    """

    name: ClassVar[str] = "omp"
    paper = Paper("Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit", "Goddard & Fernandes Neto", 2025, "2506.06607")
    summary = "rebuilt from k shared tokens as in a donor model"
    needs: ClassVar[tuple[str, ...]] = ("donor",)
    separate_head: ClassVar[bool] = True

    k: Annotated[int, Field(ge=1)] = 64
    atoms: Literal["raw", "normalized"] = "raw"
    weights: Literal["signed", "non_negative", "convex"] = "signed"
    magikarp: bool = False

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        bridge = Donor.of(context, self.name).bridge(source, target, context, self.name, magikarp=self.magikarp)
        check_k(self.name, self.k, bridge)
        weights = self.mix(bridge, source.vocab_size)
        lacking = f"{self.name}: no shared token points the way of the donor's row"
        report_uncovered(bridge.found[empty_rows(weights)], target, context, lacking, "give another donor, or --set weights=signed")
        return bridge.complete(weights, target)

    def mix(self, bridge: Bridge, columns: int) -> sparse.csr_matrix:
        """Weights (found tokens, old tokens)."""
        lengths = torch.linalg.vector_norm(bridge.anchors, dim=1, keepdim=True)
        atoms = bridge.anchors if self.atoms == "raw" else bridge.anchors / lengths
        found = matching_pursuit(bridge.rows, atoms, self.k, "signed" if self.weights == "signed" else "non_negative")
        weights = found.weights
        if self.atoms == "normalized":
            weights = weights / lengths[:, 0].to(torch.float64).numpy()[found.indices]
        if self.weights == "convex":
            sums = weights.sum(axis=1, keepdims=True)
            weights = np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)
        return spread(found.indices, weights, bridge, columns)


def check_k(method: str, k: int, bridge: Bridge) -> None:
    """Raise `ParameterError` if fewer than k tokens are shared."""
    if k > len(bridge.anchors):
        raise ParameterError(f"{method}: k={k} but donor and model share only {len(bridge.anchors)} tokens: --set k={len(bridge.anchors)}")


def spread(indices: np.ndarray, weights: np.ndarray, bridge: Bridge, columns: int) -> sparse.csr_matrix:
    """Weights (rows, k) on anchors `indices` (-1: none) as a matrix (rows, old tokens); two anchors of one old token add up."""
    rows, places = np.nonzero((indices >= 0) & (weights != 0))
    ids = bridge.anchor_ids[indices[rows, places]]
    return sparse.coo_matrix((weights[rows, places], (rows, ids)), shape=(len(indices), columns)).tocsr()
