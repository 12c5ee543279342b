"""A classifier whose last layer is fixed: the network learns to point at the vector of the class.

Enters: features (..., d). Leaves: scaled cosines to all class vectors. No number here learns with the number of classes.
"""

import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from regraft.bias.equiangular.bases import Bases, grow_bases, make_bases
from regraft.errors import ParameterError

SHORT = 0.1  # lengths of features below which gradients, which go with 1 / (temperature * length), are too large for plain SGD


class EquiangularHead(nn.Module):
    r"""Logits :math:`s_j = \langle z / |z|, w_j \rangle / \tau` with fixed unit :math:`w_j` (CVPR 2023, eq. 3).

    Parameters
    ----------
    bases : `Bases` or unit rows (rows, d); a buffer: it moves and is saved with the module and never learns.
    classes : how many of the rows are classes; None: all.
    spare : rows beyond them are "negatives" in the softmax (as released), or "masked".
    temperature : tau. learn_temperature : tau learns (its logarithm).
    axis : of the features in the input: -1, or 1 for maps (n, d, height, width).
    """

    vectors: Tensor

    def __init__(
        self,
        bases: Bases | Tensor,
        *,
        classes: int | None = None,
        spare: Literal["negatives", "masked"] = "negatives",
        temperature: float = 0.07,
        learn_temperature: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__()
        rows = bases.vectors if isinstance(bases, Bases) else normalize(bases, dim=1)
        self.classes, self.spare, self.axis = len(rows) if classes is None else classes, spare, axis
        if not 1 <= self.classes <= len(rows):
            raise ParameterError(f"{self.classes} classes and {len(rows)} class vectors: make more with regraft bias bases --classes")
        if not temperature > 0:
            raise ParameterError(f"temperature {temperature:g}: give one above 0")
        self.register_buffer("vectors", rows.clone())
        log = torch.tensor(temperature, dtype=torch.float32).log()
        if learn_temperature:
            self.log_temperature = nn.Parameter(log)
        else:
            self.register_buffer("log_temperature", log)
        self._warned = False

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def forward(self, features: Tensor) -> Tensor:
        """(..., d) -> (..., rows); with `axis` 1 (n, d, ...) -> (n, rows, ...). Warns once, in training, of features shorter than 0.1."""
        if features.shape[self.axis] != self.dim:
            raise ParameterError(f"features of {features.shape[self.axis]} numbers, class vectors of {self.dim}: they must be alike")
        z = features.movedim(self.axis, -1)
        if self.training and not self._warned and float(z.detach().norm(dim=-1).median()) < SHORT:
            self._warned = True
            warnings.warn(
                f"features are shorter than {SHORT}: train with Adam, or multiply the learning rate by the temperature", stacklevel=2
            )
        scores = (normalize(z, dim=-1, eps=1e-8) @ self.vectors.mT.to(z.dtype)) / self.log_temperature.exp().to(z.dtype)
        if self.spare == "masked" and self.classes < len(self.vectors):
            scores = scores.index_fill(-1, torch.arange(self.classes, len(self.vectors), device=scores.device), float("-inf"))
        return scores.movedim(-1, self.axis)

    def loss(self, features: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross entropy of logits at `axis` 1 (or flat) with labels, or with rows of probabilities as mixup makes them."""
        scores = self(features)
        if self.axis == 1 or labels.is_floating_point():
            return cross_entropy(scores, labels, label_smoothing=smoothing)
        return cross_entropy(scores.flatten(0, -2), labels.flatten(), label_smoothing=smoothing)

    @torch.no_grad()
    def nearest(self, features: Tensor, k: int = 1, block: int = 8192) -> tuple[Tensor, Tensor]:
        """Cosines and classes (n, k) of the nearest class vectors of features (n, d), exact, with `block` classes at a time."""
        z = normalize(features, dim=1, eps=1e-8)
        best = torch.full((len(z), 0), -2.0, dtype=z.dtype, device=z.device)
        which = torch.zeros((len(z), 0), dtype=torch.int64, device=z.device)
        for first in range(0, self.classes, block):
            cosines = z @ self.vectors[first : min(self.classes, first + block)].mT.to(z.dtype)
            ids = torch.arange(first, first + cosines.shape[1], device=z.device).expand(len(z), -1)
            both, places = torch.cat([best, cosines], 1), torch.cat([which, ids], 1)
            best, at = both.topk(min(k, both.shape[1]), dim=1)
            which = places.gather(1, at)
        return best, which

    def grow(self, more: int, *, alpha: float | None = None, seed: int = 43) -> None:
        """`more` classes behind the old ones, whose vectors and scores stay what they are. Spare rows are used first."""
        spare = len(self.vectors) - self.classes
        if more > spare:
            facts = {"signed": False, "greatest_cosine": 0.0}
            self.vectors = grow_bases(Bases(self.vectors.cpu(), facts), more - spare, alpha=alpha, seed=seed).vectors.to(
                self.vectors.device
            )
        self.classes += more

    def folded(self, last: nn.Linear) -> nn.Linear:
        """One ordinary layer that orders classes as `last` and this head do: W times its weight and bias; lengths are not divided out."""
        weight = self.vectors[: self.classes].to(last.weight)
        layer = nn.Linear(last.in_features, self.classes, bias=last.bias is not None)
        with torch.no_grad():
            layer.weight.copy_(weight @ last.weight / self.log_temperature.exp())
            if last.bias is not None:
                layer.bias.copy_(weight @ last.bias / self.log_temperature.exp())
        return layer


class EquiangularClassifier(nn.Module):
    """An encoder to (n, features), a linear layer to d, and the fixed head.

    Parameters
    ----------
    encoder : any module. features : what it puts out. classes : how many.
    dim : d; None: as many as classes. bases : made beforehand; None: made here with `seed`.
    """

    def __init__(
        self, encoder: nn.Module, features: int, classes: int, *, dim: int | None = None, bases: Bases | None = None,
        temperature: float = 0.07, seed: int = 42,
    ) -> None:  # fmt: skip
        super().__init__()
        bases = bases or make_bases(classes, dim or classes, seed=seed)
        self.encoder, self.project = encoder, nn.Linear(features, bases.dim)
        self.head = EquiangularHead(bases, classes=classes, temperature=temperature)

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) -> logits (n, rows of the bases)."""
        logits: Tensor = self.head(self.project(self.encoder(x)))
        return logits


class CosineSoftmax(nn.Module):
    """The baseline that learns its class vectors: cosines to unit rows (classes, d), divided by tau (a normalised softmax)."""

    def __init__(self, dim: int, classes: int, temperature: float = 0.07) -> None:
        super().__init__()
        self.weight, self.temperature = nn.Parameter(torch.randn(classes, dim)), temperature

    def forward(self, z: Tensor) -> Tensor:
        """(n, d) -> (n, classes)."""
        return normalize(z, dim=1, eps=1e-8) @ normalize(self.weight, dim=1).mT / self.temperature
