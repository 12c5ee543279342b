r"""Do a checkpoint's layers lie on a line? That is what TLEG takes for granted of trained transformers.

Enters: the layers of a checkpoint. Leaves: for each tensor of a layer, flattened to :math:`x_i` at layer i, the share of its variance
across layers that a line in i explains, and how closely the first principal component of the layers follows i. Both come from the Gram
matrix of the centered layers, (L, L), which is summed over blocks of rows: no model is loaded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regraft.checkpoint import TensorInfo
from regraft.checkpoint.shards import read_rows
from regraft.errors import CheckpointError
from regraft.grow.depth.kinds import kind_of
from regraft.grow.depth.stack import LayerStack
from regraft.progress import progress_bar

BLOCK_BYTES = 128 << 20
DRAWS = 2000
CLOSE, LITTLE = 0.9, 0.05  # a first component that follows the place; the largest p that is no accident

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One tensor of a layer, over all layers.

    Attributes
    ----------
    tensor : its name within a layer. kind : attn, mlp or norm. parameters : how many a layer has.
    variance : squared distance of layers from their mean, summed. linear : share of it that a line in the layer's number explains.
    first : share of it along the first principal component. follows : absolute correlation of that component with the layer's number.
    p : share of random orders of the layers in which a line explains as much.
    component : each layer's place on the first principal component, rising with the layer's number on the whole.
    """

    tensor: str
    kind: str
    parameters: int
    variance: float
    linear: float
    first: float
    follows: float
    p: float
    component: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether the first component follows the place, and a line explains more than it would of layers in any order."""
        return self.follows >= CLOSE and self.p <= LITTLE

    def row(self) -> dict[str, Any]:
        return {
            "tensor": self.tensor,
            "kind": self.kind,
            "parameters": self.parameters,
            "linear_share": self.linear,
            "first_component_share": self.first,
            "follows_place": self.follows,
            "p": self.p,
            "premise_holds": self.holds,
        }


@dataclass(frozen=True)
class Linearity:
    """`lines`, one a tensor; `by_chance` is the share that a line explains on average of layers in any order, 1 / (L - 1)."""

    depth: int
    lines: tuple[Line, ...]

    @property
    def by_chance(self) -> float:
        return 1 / (self.depth - 1)

    def linear(self, kind: str | None = None) -> float:
        """Share of the variance of all tensors (of one kind) that lines explain: what a base and a slope can hold of the layers."""
        chosen = [line for line in self.lines if kind in (None, line.kind)]
        total = sum(line.variance for line in chosen)
        return sum(line.linear * line.variance for line in chosen if line.variance) / total if total else math.nan

    def holding(self) -> float:
        """Share of parameters in tensors for which the premise holds."""
        return sum(line.parameters for line in self.lines if line.holds) / sum(line.parameters for line in self.lines)

    def figures(self) -> dict[str, Any]:
        kinds = [kind for kind in ("attn", "mlp", "norm") if any(line.kind == kind for line in self.lines)]
        return {
            "layers": self.depth,
            "linear_share": self.linear(),
            "by_chance": self.by_chance,
            "by_kind": {kind: self.linear(kind) for kind in kinds},
            "premise_holds_for": self.holding(),
            "tensors": [line.row() | {"component": list(line.component)} for line in self.lines],
        }


def linearity(stack: LayerStack, *, draws: int = DRAWS, seed: int = 0) -> Linearity:
    """How far the layers of `stack` lie on a line. Raises `CheckpointError` for fewer than three layers, or layers of different shapes."""
    if stack.depth < 3:
        raise CheckpointError(f"{stack.checkpoint.path}: {stack.depth} layers lie on a line in any case: give a model of three or more")
    tensors = stack.checkpoint.tensors
    lines = []
    with progress_bar("reading layers", total=len(stack.templates), unit="tensors") as bar:
        for template in stack.templates:
            infos = [tensors[layer[template]] for layer in stack.layers]
            size: int = math.prod(infos[0].shape)
            if infos[0].torch_dtype.is_floating_point and size:
                name = stack.called[template]
                lines.append(_line(gram(infos), (name, kind_of(name, len(infos[0].shape)), size), draws, seed))
            bar.advance()
    return Linearity(stack.depth, tuple(lines))


def gram(infos: Sequence[TensorInfo]) -> Floats:
    """Inner products (L, L) of the layers' tensors about their mean."""
    shape = infos[0].shape or (1,)
    step = max(1, BLOCK_BYTES // (8 * len(infos) * max(1, math.prod(shape[1:]))))
    total = np.zeros((len(infos), len(infos)))
    for start in range(0, shape[0], step):
        parts = [read_rows(info, start, min(start + step, shape[0])).flatten() for info in infos]
        block = torch.stack([part.double() for part in parts])
        block -= block.mean(0)
        total += (block @ block.T).numpy()
    return total


def _line(products: Floats, about: tuple[str, str, int], draws: int, seed: int) -> Line:
    depth = len(products)
    place = np.arange(depth) - (depth - 1) / 2
    if not np.isfinite(products).all():
        raise CheckpointError(f"{about[0]}: holds NaN or infinity: nothing can be said of these layers")
    variance = float(np.trace(products))
    if variance <= 0:  # all layers alike: a line of no slope explains it all
        return Line(*about, 0.0, math.nan, math.nan, math.nan, math.nan, (0.0,) * depth)
    values, vectors = np.linalg.eigh(products)
    component = vectors[:, -1] * math.sqrt(max(values[-1], 0.0))
    correlation = float(np.corrcoef(component, place)[0, 1])
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(place) for _ in range(draws)])
    explained = float(place @ products @ place)
    drawn = np.einsum("di,ij,dj->d", orders, products, orders, optimize=True)
    p = (1 + int((drawn >= explained).sum())) / (draws + 1)
    share = explained / float(place @ place) / variance
    rising = component if correlation >= 0 else -component
    return Line(*about, variance, share, float(values[-1]) / variance, abs(correlation), p, tuple(float(value) for value in rising))
