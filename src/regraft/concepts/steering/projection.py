"""Directions out of rows: an orthonormal basis of what is unwanted, and rows without it.

Enters: unwanted rows (m, d) and rows (..., d), of any encoder. Leaves: rows of the same shape and precision. Everything is computed in
float32 at least; the d x d projector is never made.
"""

from dataclasses import dataclass

import torch

from regraft.errors import ParameterError

TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Basis:
    r"""Orthonormal right-singular vectors of unwanted rows.

    Attributes
    ----------
    vectors : (d, r), :math:`\tilde V`; the projector is :math:`P = \tilde V \tilde V^\top`. values : (r,) their singular values.
    """

    vectors: torch.Tensor
    values: torch.Tensor

    @property
    def rank(self) -> int:
        return int(self.vectors.shape[1])


def basis(unwanted: torch.Tensor, *, rank: int | None = None, energy: float | None = None, tolerance: float = TOLERANCE) -> Basis:
    r"""The directions that `unwanted` (m, d) spans, the strongest first.

    Parameters
    ----------
    rank : how many at most. energy : as few as hold this share of :math:`\sum_i \tilde\sigma_i^2`. tolerance : of
        :math:`\tilde\sigma_1`; what is smaller is noise, as in rows that repeat.

    Raises `ParameterError` for rows that are not finite, and for a rank, share or tolerance out of range.
    """
    if unwanted.dim() != 2 or not bool(unwanted.isfinite().all()):
        raise ParameterError(f"unwanted rows of shape {tuple(unwanted.shape)}: give finite rows (m, d)")
    if rank is not None and rank < 1:
        raise ParameterError(f"rank={rank}: give 1 or more, or leave it out for all")
    if energy is not None and not 0 < energy <= 1:
        raise ParameterError(f"energy={energy}: give a share above 0, up to 1")
    if not 0 <= tolerance < 1:
        raise ParameterError(f"tolerance={tolerance}: give a share of the largest singular value, from 0 to below 1")
    if not bool(unwanted.any()):
        return Basis(unwanted.new_zeros(unwanted.shape[1], 0), unwanted.new_zeros(0))
    _, values, turned = torch.linalg.svd(unwanted.detach().double(), full_matrices=False)
    kept = int((values > tolerance * values[0]).sum())
    if energy is not None:
        share = values[:kept].square().cumsum(0) / values.square().sum()
        kept = min(kept, int((share < energy - 1e-12).sum()) + 1)
    kept = kept if rank is None else min(kept, rank)
    return Basis(turned[:kept].T.contiguous().to(unwanted.dtype), values[:kept].to(unwanted.dtype))


def projected(rows: torch.Tensor, off: Basis, alpha: float | torch.Tensor = 1.0, *, renorm: bool = False) -> torch.Tensor:
    r"""Rows (..., l, d) with the share `alpha` of the unwanted directions taken out.

    .. math:: X' = X - \alpha\, X \tilde V \tilde V^\top

    Parameters
    ----------
    alpha : from 0 (untouched) to 1 (the orthogonal complement), one for all rows or (..., l). renorm : give each row its length back.

    Raises `ParameterError`: another width than the basis, `alpha` out of range.
    """
    if rows.shape[-1] != off.vectors.shape[0]:
        raise ParameterError(f"rows are {rows.shape[-1]} wide, the unwanted ones {off.vectors.shape[0]}: both must be of one encoder")
    share = torch.as_tensor(alpha, dtype=torch.float64)
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise ParameterError(f"strength {share.max() if share.max() > 1 else share.min():g}: give 0 (untouched) to 1 (all of it out)")
    if off.rank == 0 or not bool(share.any()):
        return rows
    given = rows.to(torch.promote_types(rows.dtype, torch.float32))
    directions = off.vectors.to(given)
    part = share.to(given) if share.dim() == 0 else share.to(given)[..., None]
    left = given - part * ((given @ directions) @ directions.T)
    if renorm:
        before, after = given.norm(dim=-1, keepdim=True), left.norm(dim=-1, keepdim=True)
        left = torch.where(after > 0, left * (before / after.clamp(min=torch.finfo(given.dtype).tiny)), left)
    return left.to(rows.dtype)


def lost(rows: torch.Tensor, off: Basis) -> torch.Tensor:
    r"""How much of each row (..., d) lies in the unwanted directions: :math:`\cos^2 = \lVert x P \rVert^2 / \lVert x \rVert^2` (...)."""
    given = rows.to(torch.promote_types(rows.dtype, torch.float32))
    length = given.square().sum(-1)
    return torch.where(length > 0, (given @ off.vectors.to(given)).square().sum(-1) / length.clamp(min=1e-30), 0.0)
