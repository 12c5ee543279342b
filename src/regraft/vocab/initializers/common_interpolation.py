"""Common interpolation: a new token is a mix of the k shared tokens that are nearest to it in a donor model."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from regraft.graft import Graft, iterate_blocks
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.omp.method import check_k, spread
from regraft.vocab.mixing.donor import Donor

BLOCK = 512  # new tokens at a time: their distances to all anchors are in memory
GATHERED = 64 << 20  # bytes of their neighbors in float64


class CommonInterpolation(Initializer):
    r"""Interpolation between nearest shared tokens (the alternatives to OMP in mergekit-tokensurgeon).

    Neighbors and weights come from the donor's rows, :math:`x \approx \sum_o w_o D_o`; the new row is :math:`e = \sum_o w_o E_o`. Tokens
    that the donor lacks take the mean of their old pieces.

    Parameters
    ----------
    k : neighbors, >= 1 and at most the number of shared tokens.
    metric : "euclidean" or "cosine".
    weights : "inverse_distance" (:math:`w \propto 1/\|x - D_o\|`; the positive part of the similarity where the metric is "cosine"),
        "barycentric" (least squares with :math:`\sum w = 1`), or "least_squares".
    magikarp : do not build on shared tokens that are under-trained in the donor or in the model (`regraft.tokenizer.undertrained`).

    Needs --donor. Returns a graft of shape (new tokens, old tokens); in the convex hull with "inverse_distance".
    """

    paper = Paper("Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit", "Goddard & Fernandes Neto", 2025, "2506.06607")
    summary = "a mix of the k nearest shared tokens in a donor model"
    needs: ClassVar[tuple[str, ...]] = ("donor",)
    separate_head: ClassVar[bool] = True

    k: Annotated[int, Field(ge=1)] = 64
    metric: Literal["euclidean", "cosine"] = "euclidean"
    weights: Literal["inverse_distance", "barycentric", "least_squares"] = "inverse_distance"
    magikarp: bool = False

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        bridge = Donor.of(context, self.name).bridge(source, target, context, self.name, magikarp=self.magikarp)
        check_k(self.name, self.k, bridge)
        indices = torch.empty(len(bridge.rows), self.k, dtype=torch.int64)
        weights = torch.empty(len(bridge.rows), self.k, dtype=torch.float64)
        block_rows = max(1, min(BLOCK, GATHERED // (8 * self.k * bridge.rows.shape[1])))
        for block in iterate_blocks(len(bridge.rows), block_rows):
            indices[block], weights[block] = self._neighbors(bridge.rows[block], bridge.anchors)
        return bridge.complete(spread(indices.numpy(), weights.numpy(), bridge, source.vocab_size), target)

    def _neighbors(self, rows: torch.Tensor, anchors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The k nearest anchors (b, k) of each row and their weights (b, k), float64."""
        if self.metric == "euclidean":
            nearness = -torch.cdist(rows, anchors)
        else:
            nearness = torch.nn.functional.normalize(rows, dim=1) @ torch.nn.functional.normalize(anchors, dim=1).T
        near, indices = nearness.topk(self.k, dim=1)
        if self.weights == "inverse_distance":
            near = near.to(torch.float64)  # sums of float32 weights miss 1 by more than the hull allows
            raw = 1 / (-near).clamp(min=1e-6) if self.metric == "euclidean" else near.clamp(min=1e-6)
            return indices, raw / raw.sum(dim=1, keepdim=True)
        return indices, least_squares(rows.to(torch.float64), anchors[indices].to(torch.float64), affine=self.weights == "barycentric")


def least_squares(rows: torch.Tensor, points: torch.Tensor, affine: bool) -> torch.Tensor:
    r"""Weights (b, k) of `points` (b, k, d) nearest to `rows` (b, d), the shortest where several are; they sum to 1 if `affine`.

    From the normal equations, bordered by :math:`\sum w = 1` with its multiplier in the affine case.
    """
    b, k, _ = points.shape
    system = torch.bmm(points, points.transpose(1, 2))
    right = torch.bmm(points, rows[:, :, None])
    if affine:
        ones = torch.ones(b, k, 1, dtype=points.dtype)
        corner = torch.zeros(b, 1, 1, dtype=points.dtype)
        system = torch.cat([torch.cat([system, ones], dim=2), torch.cat([ones.transpose(1, 2), corner], dim=2)], dim=1)
        right = torch.cat([right, torch.ones(b, 1, 1, dtype=points.dtype)], dim=1)
    solved: torch.Tensor = torch.bmm(torch.linalg.pinv(system, rtol=1e-11, hermitian=True), right)[:, :k, 0]
    return solved
