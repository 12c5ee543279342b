"""Networks that give a word its vectors: a mapper of time and layer (NeTI), or a free vector for each layer (XTI).

Enters: times (n,). Leaves: `Vectors` for each of them at every layer of cross-attention, numbered as the U-Net runs them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import normalize

from regraft.concepts.host.words import Rows

Norm = Literal["split", "joint"]
Encoding = Literal["fourier", "plain"]
Over = Literal["both", "time", "layer"]


@dataclass(frozen=True)
class Vectors:
    """`base` (n, layers, width) by tower; `bypass`, the same, is added `strength` times behind the tower, to values alone."""

    base: Rows
    bypass: Rows | None = None
    strength: float = 0.0


class Network(nn.Module, ABC):
    """A word's vectors.

    Attributes
    ----------
    layers : of cross-attention. hidden : units that can be cut off, 0 where there are none. times : of the training's noise.
    """

    layers: int
    hidden: int = 0
    times: int = 1000

    @abstractmethod
    def forward(self, t: torch.Tensor, keep: torch.Tensor | int | None = None) -> Vectors:
        """Vectors at times `t` (n,); `keep` is how many of the hidden units are not zero, one number or (n, layers)."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What builds a network of this shape, as plain data."""

    def cut(self, count: int, generator: torch.Generator) -> torch.Tensor | None:
        """How many hidden units a step of learning keeps (count, layers), None for all."""
        return None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A mapper's shape.

    Attributes
    ----------
    widths : of the towers. lengths : that a base vector has, the norm of the super-category's row in each tower.
    layers : of cross-attention. times : of the training's noise. anchors : in time, of the first layer.
    frequencies : random ones of the code. sigma_t, sigma_layer : their spread. encoding : "plain" is time and layer in [-1, 1].
    over : what the vectors depend on. bypass : a second output. strength : of that. norm : "joint" scales both outputs as one vector.
    nested : how often a layer's hidden units are cut while it learns.
    """

    widths: Mapping[str, int]
    lengths: Mapping[str, float]
    layers: int
    times: int = 1000
    hidden: int = 128
    anchors: int = 10
    frequencies: int = 1024
    sigma_t: float = 0.03
    sigma_layer: float = 2.0
    encoding: Encoding = "fourier"
    over: Over = "both"
    bypass: bool = True
    strength: float = 0.2
    norm: Norm = "split"
    nested: float = 0.5


class Mapper(Network):
    r"""The small network of NeTI (section 4; the released code for what the paper leaves open).

    A time and a layer :math:`x = (t, \ell)` become :math:`f(x) = [\sin wx, \cos wx] / \lVert \cdot \rVert` with fixed random
    :math:`w`; a linear layer whose rows begin as :math:`f` of its anchors, two hidden layers of `hidden` units, and a linear
    output of (width,) for each tower, or twice that with a bypass.
    """

    w: torch.Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.layers, self.hidden, self.times = shape, shape.layers, shape.hidden, shape.times
        size = shape.hidden
        self.out = nn.Linear(size, (1 + shape.bypass) * sum(shape.widths.values()))
        entering = 2
        if shape.encoding == "fourier":
            spread = torch.tensor([shape.sigma_t, shape.sigma_layer])
            self.register_buffer("w", torch.randn(shape.frequencies, 2) * spread)
            entering = shape.anchors * shape.layers
            self.anchor = nn.Linear(2 * shape.frequencies, entering)
            at = torch.arange(shape.anchors) * (shape.times / shape.anchors)
            self.anchor.weight.data.copy_(self.code(at).flatten(0, 1))
        first, second = nn.Linear(entering, size), nn.Linear(size, size)
        self.body = nn.Sequential(first, nn.LayerNorm(size), nn.LeakyReLU(), second, nn.LayerNorm(size), nn.LeakyReLU())

    def code(self, t: torch.Tensor) -> torch.Tensor:
        """Times (n,) beside every layer as the network takes them in, (n, layers, 2 frequencies); of encoding "plain", (n, layers, 2)."""
        shape, kind = self.shape, self.out.weight.dtype
        layer = torch.arange(shape.layers, device=t.device, dtype=kind)
        t = t.to(kind)
        if shape.encoding == "plain":
            t, layer = t / (shape.times - 1) * 2 - 1, layer / max(shape.layers - 1, 1) * 2 - 1
        t, layer = t * (shape.over != "layer"), layer * (shape.over != "time")
        x = torch.stack([t[:, None].expand(-1, shape.layers), layer.expand(len(t), -1)], -1)
        if shape.encoding == "plain":
            return x
        angle = x @ self.w.T
        return torch.cat([angle.sin(), angle.cos()], -1) / math.sqrt(shape.frequencies)

    def forward(self, t: torch.Tensor, keep: torch.Tensor | int | None = None) -> Vectors:
        code, shape = self.code(t.to(self.out.weight.device)), self.shape
        h = self.body(self.anchor(code) if shape.encoding == "fourier" else code)
        if keep is not None:
            kept = torch.as_tensor(keep, device=h.device)[..., None]
            h = h * (torch.arange(shape.hidden, device=h.device) < kept)
        sizes = [(1 + shape.bypass) * width for width in shape.widths.values()]
        parts = dict(zip(shape.widths, self.out(h).split(sizes, -1), strict=True))
        if shape.norm == "joint" or not shape.bypass:
            parts = {key: normalize(part, dim=-1) * shape.lengths[key] for key, part in parts.items()}
        if not shape.bypass:
            return Vectors(parts)
        halves = {key: part.split(shape.widths[key], -1) for key, part in parts.items()}
        base = {key: half[0] for key, half in halves.items()}
        if shape.norm == "split":
            base = {key: normalize(one, dim=-1) * shape.lengths[key] for key, one in base.items()}
        return Vectors(base, {key: half[1] for key, half in halves.items()}, shape.strength)

    def cut(self, count: int, generator: torch.Generator) -> torch.Tensor | None:
        """Nested dropout: a coin for each layer, a place for each sample; a place of 0 leaves the output's bias alone."""
        shape = self.shape
        if not shape.nested:
            return None
        coin = torch.rand(shape.layers, generator=generator) < shape.nested
        place = torch.randint(shape.hidden, (count, shape.layers), generator=generator)
        return torch.where(coin, place, shape.hidden)

    def facts(self) -> dict[str, Any]:
        return {"network": "mapper", **asdict(self.shape)}


class LayerRows(Network):
    """A free vector for each layer, at all times alike: rows (layers, width) by tower. That of XTI."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = nn.ParameterDict({key: nn.Parameter(value.detach().float().clone()) for key, value in rows.items()})
        self.layers = len(next(iter(rows.values())))

    def forward(self, t: torch.Tensor, keep: torch.Tensor | int | None = None) -> Vectors:
        return Vectors({key: value.expand(len(t), -1, -1) for key, value in self.rows.items()})

    def facts(self) -> dict[str, Any]:
        return {"network": "rows", "layers": self.layers, "widths": {key: value.shape[1] for key, value in self.rows.items()}}


def network(facts: Mapping[str, Any]) -> Network:
    """A network of the shape that `facts` tell, not yet with its weights. Raises `ValueError` for other facts."""
    kind, given = facts["network"], {key: value for key, value in facts.items() if key != "network"}
    try:
        if kind == "mapper":
            return Mapper(Shape(**given))
        return LayerRows({key: torch.zeros(given["layers"], width) for key, width in given["widths"].items()})
    except (TypeError, KeyError) as error:
        raise ValueError(f"no network of the kind {kind!r}: {error}") from None


@torch.no_grad()
def likeness(net: Network) -> dict[str, float]:
    """Mean cosine between a layer's vectors at different times, and between layers at one time: 1 where the place makes no difference."""
    base = normalize(next(iter(net(torch.arange(10) * (net.times / 10)).base.values())).float(), dim=-1)
    over_time, over_layers = base.transpose(0, 1) @ base.permute(1, 2, 0), base @ base.transpose(1, 2)
    return {"cosine_over_time": _beside(over_time), "cosine_over_layers": _beside(over_layers)}


def _beside(cosines: torch.Tensor) -> float:
    """Mean of what lies off the diagonal."""
    count = cosines.shape[-1]
    others = ~torch.eye(count, dtype=torch.bool, device=cosines.device)
    return float(cosines[:, others].mean()) if count > 1 else 1.0
