"""Do vectors use all directions alike? Ways to make them do so, by scikit-learn, and figures that tell how far they do.

Enters: vectors (n, d). Leaves: vectors (n, d), or figures.
"""

import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError
from regraft.progress import console

Isotropy = Literal["none", "center", "standardize", "whiten", "ica"]
Vectors = npt.NDArray[np.float64]
DRAWN = 20_000  # random pairs of rows


def transformed(vectors: Vectors, kind: Isotropy, *, seed: int = 42) -> Vectors:
    """`vectors` after one of: mean 0; also variance 1; also covariance 1; independent components of mean 0 and variance 1.

    ICA (log-cosh, tolerance 1e-4, 1,000 iterations) comes after standardisation. Raises `ParameterError` where whitening or ICA has not
    more rows than dimensions.
    """
    if kind == "none":
        return vectors
    from sklearn.decomposition import PCA, FastICA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count, dim = vectors.shape
    if kind in ("whiten", "ica") and count <= dim:
        raise ParameterError(f"isotropy={kind}: {count:,} entries for {dim:,} dimensions: it needs more entries than dimensions")
    components = FastICA(fun="logcosh", tol=1e-4, max_iter=1000, whiten="unit-variance", random_state=seed)
    ways: dict[str, Any] = {
        "center": StandardScaler(with_std=False),
        "standardize": StandardScaler(),
        "whiten": PCA(whiten=True, svd_solver="full"),
        "ica": make_pipeline(StandardScaler(), components),
    }
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ConvergenceWarning)
        found = np.asarray(ways[kind].fit_transform(vectors), dtype=np.float64)
    if any(issubclass(one.category, ConvergenceWarning) for one in told):
        console.print("ICA has not converged after 1,000 iterations: its components are taken as they are", highlight=False)
    return found


def rescaled(vectors: Vectors, length: float) -> Vectors:
    """`vectors` times one number, so that their mean length is `length`."""
    now = float(np.linalg.norm(vectors, axis=1).mean())
    return vectors * (length / now) if now > 0 else vectors


def uniformity(vectors: Vectors, *, seed: int = 0) -> dict[str, float]:
    """`cosine` : mean over random pairs of rows. `isoscore` : 0 one direction, 1 all alike (Rudman et al. 2022). `top` : share of the first
    singular value squared, without centring.
    """
    draw = np.random.default_rng(seed)
    a, b = draw.integers(len(vectors), size=DRAWN), draw.integers(len(vectors), size=DRAWN)
    a, b = a[a != b], b[a != b]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    values = np.linalg.svd(vectors, compute_uv=False) ** 2
    return {
        "cosine": float((unit[a] * unit[b]).sum(1).mean()) if len(a) else 1.0,
        "isoscore": isoscore(vectors),
        "top": float(values[0] / values.sum()) if values.sum() > 0 else 1.0,
    }


def isoscore(vectors: Vectors) -> float:
    """IsoScore (Rudman et al. 2022, section 4): the distance of the normed variances along principal axes from all ones, from 0 to 1."""
    dim = vectors.shape[1]
    variances = np.clip(np.linalg.eigvalsh(np.cov(vectors.T)), 0, None) if len(vectors) > 1 and dim > 1 else np.zeros(dim)
    length = np.linalg.norm(variances)
    if length == 0:
        return 0.0
    defect = np.linalg.norm(np.sqrt(dim) * variances / length - 1) / np.sqrt(2 * (dim - np.sqrt(dim)))
    share = (dim - defect**2 * (dim - np.sqrt(dim))) ** 2 / dim**2
    return float((dim * share - 1) / (dim - 1))
