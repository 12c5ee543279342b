"""What no set of unit vectors can do better: the bounds that a request is held against before anything is made."""

import math

from regraft.errors import ParameterError


def welch(classes: int, dim: int, *, signed: bool = False) -> float:
    """The least possible greatest cosine between `classes` unit vectors in `dim` dimensions.

    Absolute cosines: Welch's sqrt((N - d) / (d (N - 1))), 0 where N <= d. Signed ones (`signed`): -1 / (N - 1) up to N = d + 1, the
    simplex, and 0 beyond (Rankin).
    """
    if signed:
        return -1 / (classes - 1) if classes <= dim + 1 else 0.0
    return math.sqrt((classes - dim) / (dim * (classes - 1))) if classes > dim else 0.0


def smallest_dimension(classes: int, alpha: float, *, signed: bool = False) -> int:
    """The least dimension in which the bound allows a greatest cosine of `alpha`: N / (1 + alpha^2 (N - 1)), rounded up."""
    if signed:
        return classes - 1 if alpha < 0 else math.ceil(classes / 2) if alpha == 0 else 1
    return max(1, math.ceil(classes / (1 + alpha**2 * (classes - 1)) - 1e-9))


def check(classes: int, dim: int, alpha: float | None, *, signed: bool = False) -> None:
    """Raise `ParameterError` for sizes below 2 and 1, and for an `alpha` that the bound forbids, with the dimension that would do."""
    if classes < 2 or dim < 1:
        raise ParameterError(f"{classes} classes in {dim} dimensions: at least 2 classes and 1 dimension are needed")
    if alpha is None:
        return
    low = welch(classes, dim, signed=signed)
    if not -1 <= alpha < 1 or (alpha < 0 and not signed):
        raise ParameterError(f"alpha {alpha:g}: a greatest cosine lies in [0, 1), or in [-1, 1) where it is signed")
    if alpha < low - 1e-9:
        remedy = f"ask for --alpha {math.ceil(low * 1e4) / 1e4:g} or more"
        if not signed or alpha >= -1 / (classes - 1):
            remedy += f", or for --dim {smallest_dimension(classes, alpha, signed=signed)} or more"
        raise ParameterError(
            f"alpha {alpha:g}: {classes} classes in {dim} dimensions have a greatest cosine of at least {low:.4f} (Welch): {remedy}"
        )
