"""The relative layer for training end to end: anchors go through the encoder at every step, as the encoder changes.

Enters: a batch and the anchors' samples. Leaves: relative coordinates, normalised, for a decoder or classifier. Gradients do not flow
through the anchors unless asked for. Nothing here depends on the batch's other members.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from regraft.align.aligners.relative_representations.projections import SIMILARITIES, Similarity
from regraft.errors import RowsError

EPS = 1e-12
LayerPooling = Literal["concat", "sum", "mean", "max", "linear"]


def unit(rows: Tensor) -> Tensor:
    """Rows of length 1; a row of length 0 stays, and its gradient is 0 (a norm's would be NaN or of the order 1e12)."""
    squares = (rows * rows).sum(-1, keepdim=True)
    there = squares > EPS * EPS
    return torch.where(there, rows * torch.rsqrt(torch.where(there, squares, 1.0)), 0.0)


def similarities(z: Tensor, a: Tensor, similarity: Similarity, ridge: float = 0.0) -> Tensor:
    """As `projections.project`, in torch: rows (n, d) by anchors (k, d) as (n, k).

    The angle is taken from both diagonals of the rhombus, whose gradient stays finite at 0.
    """
    exact = "donot_use_mm_for_euclid_dist"
    found: Tensor
    if similarity == "cosine":
        found = unit(z) @ unit(a).T
    elif similarity == "inner":
        found = z @ a.T / z.shape[-1] ** 0.5
    elif similarity == "angular":
        u, v = unit(z), unit(a)
        angle = 2 / torch.pi * torch.atan2(torch.cdist(u, v, compute_mode=exact), torch.cdist(u, -v, compute_mode=exact))
        found = torch.where((u != 0).any(-1, keepdim=True), angle, 0.5)
    elif similarity == "basis" and ridge:
        found = z @ torch.linalg.solve(a.T @ a + ridge * torch.eye(a.shape[1], dtype=a.dtype, device=a.device), a.T)
    elif similarity == "basis":
        found = z @ torch.linalg.pinv(a)
    else:
        found = torch.cdist(z, a, p={"euclidean": 2.0, "l1": 1.0, "linf": float("inf")}[similarity], compute_mode=exact)
    return found


def quantize(relative: Tensor, width: float, quantizer: Literal["none", "round", "smooth"] = "round") -> Tensor:
    """Similarities in steps of `width`: "round" with the gradient of the identity (straight through), "smooth" with its own."""
    if quantizer == "round":
        return relative + (torch.round(relative / width) * width - relative).detach()
    if quantizer == "smooth":
        turns = relative / width
        return width * (turns - torch.sin(2 * torch.pi * turns) / (2 * torch.pi))
    return relative


class RelativeProjection(nn.Module):
    r"""An encoder whose output is relative to anchors: ``head(RelativeProjection(encoder, anchors)(x))`` trains as any model does.

    :math:`z = E(x)`, :math:`a = E(\text{anchors})` anew at each call, :math:`r = \mathrm{LayerNorm}(\mathrm{sim}(z, a))` (Moschella et al.
    2023, section 3). fp16 and bf16 outputs are compared in float32.

    Parameters
    ----------
    encoder : module that takes a batch (n, ...) to (n, d).
    anchors : the anchors' samples (k, ...), as the encoder takes them; kept as a buffer and in the `state_dict`.
    similarity : one, or several whose coordinates are normalised, go through a layer of their own and added (product of invariances).
    center : take the anchors' mean off both first.
    chunks : so many subspaces, pooled by `pooling`: "concat", "sum", "mean", "max", "linear" (learned weights, which begin as the mean).
    quantizer, width : steps of the similarities; rounding has the gradient of the identity.
    ridge : penalty of the similarity "basis".
    anchor_gradient : let gradients through the anchors (paper: no).
    normalize : end in a LayerNorm over the k coordinates.

    Returns (n, k), or (n, chunks * k) where chunks are concatenated. Raises `ParameterError` for unknown words.
    """

    anchors: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        anchors: Tensor,
        *,
        similarity: Similarity | tuple[Similarity, ...] = "cosine",
        center: bool = False,
        chunks: int = 1,
        pooling: LayerPooling = "concat",
        quantizer: Literal["none", "round", "smooth"] = "none",
        width: float = 0.1,
        ridge: float = 0.0,
        anchor_gradient: bool = False,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.similarities = (similarity,) if isinstance(similarity, str) else tuple(similarity)
        unknown = [one for one in self.similarities if one not in SIMILARITIES]
        if unknown or not self.similarities or chunks < 1 or len(anchors) < 1 or not width > 0:
            raise RowsError(
                f"relative projection: similarity {self.similarities}, chunks={chunks}, {len(anchors)} anchors, width={width}: "
                f"choose of {', '.join(SIMILARITIES)}, and at least 1 chunk, 1 anchor and a width above 0"
            )
        self.encoder, self.center, self.chunks, self.pooling = encoder, center, chunks, pooling
        self.quantizer, self.width, self.ridge, self.anchor_gradient = quantizer, width, ridge, anchor_gradient
        self.register_buffer("anchors", anchors)
        features = len(anchors) * (chunks if pooling == "concat" else 1)
        self.weights = nn.Parameter(torch.full((chunks,), 1 / chunks)) if pooling == "linear" else None
        several = len(self.similarities) > 1
        self.branches = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(features), nn.Linear(features, features), nn.Tanh()) for _ in self.similarities if several
        )
        self.norm = nn.LayerNorm(features) if normalize else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.anchor_gradient and torch.is_grad_enabled()):
            a = self.encoder(self.anchors)
        return self.relative(self.encoder(x), a)

    def relative(self, z: Tensor, a: Tensor) -> Tensor:
        """What `forward` does with encoded rows z (n, d) and anchors a (k, d)."""
        z, a = (one.float() if one.dtype in (torch.float16, torch.bfloat16) else one for one in (z, a))
        if self.center:
            mean = a.mean(0)
            z, a = z - mean, a - mean
        found = [self._pooled(z, a, one) for one in self.similarities]
        if self.branches:
            total: Tensor = torch.stack([branch(one) for branch, one in zip(self.branches, found, strict=True)]).sum(0)
        else:
            total = found[0]
        out: Tensor = self.norm(quantize(total, self.width, self.quantizer))
        return out

    def _pooled(self, z: Tensor, a: Tensor, similarity: Similarity) -> Tensor:
        pairs = zip(z.tensor_split(self.chunks, -1), a.tensor_split(self.chunks, -1), strict=True)
        parts = [similarities(left, right, similarity, self.ridge) for left, right in pairs]
        if self.pooling == "concat":
            return torch.cat(parts, -1)
        stacked = torch.stack(parts, -1)
        if self.weights is not None:
            return stacked @ self.weights
        return stacked.amax(-1) if self.pooling == "max" else stacked.sum(-1) if self.pooling == "sum" else stacked.mean(-1)
