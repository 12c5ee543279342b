"""Landmark PCA: the donor's space is rotated onto the old one so that shared tokens meet, and new rows are carried over."""

from typing import ClassVar

import numpy as np
import torch

from regraft.graft import Graft, Rows
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.mixing.donor import Donor


class LandmarkPCA(Initializer):
    r"""Principal components of the shared tokens in both spaces, matched by a rotation.

    With centered anchors :math:`D` (donor) and :math:`E` (old), their leading :math:`q = \min(d_D, d_E)` principal directions
    :math:`V_D, V_E` and :math:`R = UV^\top` from the SVD :math:`(D V_D)^\top (E V_E) = USV^\top` (orthogonal Procrustes),
    :math:`e = \bar E + (x - \bar D) V_D R V_E^\top`. mergekit-tokensurgeon multiplies by :math:`R^\top` instead, which does not bring the
    anchors together and depends on the arbitrary signs of the components; the formula here is the one meant.

    Parameters
    ----------
    magikarp : do not build on shared tokens that are under-trained in the donor or in the model (`regraft.tokenizer.undertrained`).

    Needs --donor. Returns rows of shape (new tokens, d); tokens that the donor lacks take the mean of their old pieces.
    """

    name: ClassVar[str] = "landmark-pca"
    paper = Paper("Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit", "Goddard & Fernandes Neto", 2025, "2506.06607")
    summary = "carried over from a donor by a rotation that matches shared tokens"
    needs: ClassVar[tuple[str, ...]] = ("donor",)
    separate_head: ClassVar[bool] = True

    magikarp: bool = False

    def __call__(self, source: Source, target: Target, context: Context) -> Rows:
        bridge = Donor.of(context, self.name).bridge(source, target, context, self.name, magikarp=self.magikarp)
        old = source.table[torch.from_numpy(bridge.anchor_ids)].to(torch.float64)
        rows = Graft.uniform(target.pieces, source.vocab_size).apply(source.table)
        rows[torch.from_numpy(bridge.found)] = carry(bridge.rows.to(torch.float64), bridge.anchors.to(torch.float64), old).to(rows.dtype)
        return Rows(rows, origin="learned", combined=np.setdiff1d(np.arange(len(rows)), bridge.found))


def carry(rows: torch.Tensor, anchors: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """`rows` (m, e) of the donor's space in the old one, (m, d), given the anchors (n, e) and (n, d) of both; float64."""
    q = min(anchors.shape[1], old.shape[1])
    here, there = anchors - anchors.mean(0), old - old.mean(0)
    left, right = _leading(here, q), _leading(there, q)
    u, _, vt = torch.linalg.svd((here @ left).T @ (there @ right))
    carried: torch.Tensor = old.mean(0) + (rows - anchors.mean(0)) @ left @ (u @ vt) @ right.T
    return carried


def _leading(centered: torch.Tensor, q: int) -> torch.Tensor:
    """The q leading principal directions (d, q)."""
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    directions: torch.Tensor = vectors[:, -q:].flip(1)
    return directions
