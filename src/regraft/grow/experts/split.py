"""experts.json: which neurons make which expert, and how tokens choose among them.

Enters: what a grower decided. Leaves: a file beside the weights. Neurons lie in the order of their experts already, so that the split is a
number of experts; `order` (where each neuron came from) is only for the way back.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from regraft.errors import CheckpointError

FILE = "experts.json"
FIELD = "regraft_experts"  # of config.json: the same without `order`, so that what a trainer saves carries it
SCHEMA = 1

Gate = Literal["average-key", "learned", "softmax"]
Score = Literal["key", "up", "product", "absolute"]
Rule = Literal["top", "bottom", "random", "not-top"]


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How tokens choose experts.

    Attributes
    ----------
    gate : "average-key" (no parameters: the mean of an expert's keys), "learned" (a cosine router) or "softmax" (of copies: Mixtral's).
    score : what the average gate scores by: mean pre-activation of the keys, mean of the second factor of a gated block, mean
        activation, or mean absolute activation of an expert's neurons. rule : which experts are kept; all but "top" are controls.
    normalize : the gate's rows at unit length.
    noise : deviation of Gaussian noise on the gate in training, divided by the number of experts. capacity : tokens that an expert takes
        in training, as a multiple of its fair share; later ones are dropped (least sure tokens first). auxiliary : weight of the
        load-and-importance loss. dropout : of pre-activations in training. All four are 0 or None unless asked for.
    """

    experts: int
    top_k: int
    gate: Gate = "average-key"
    score: Score = "key"
    rule: Rule = "top"
    normalize: bool = False
    noise: float = 0.0
    capacity: float | None = None
    auxiliary: float = 0.0
    dropout: float = 0.0


@dataclass(frozen=True)
class Layer:
    """One split block: its path in the model, and `order[i]`: where neuron i was in the dense model (None: not known any more)."""

    path: str
    order: tuple[int, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Split:
    """All split blocks of a model, and how they route. `kind`: neurons of one block ("neurons"), or `copies` of whole blocks."""

    routing: Routing
    layers: tuple[Layer, ...]
    kind: Literal["neurons", "copies"] = "neurons"

    def to_dict(self, *, orders: bool = True) -> dict[str, Any]:
        layers = [{"path": one.path} | ({"order": list(one.order)} if orders and one.order else {}) for one in self.layers]
        return {"schema": SCHEMA, "kind": self.kind, **asdict(self.routing), "layers": layers}

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(self.to_dict()) + "\n", encoding="utf-8")

    def with_top_k(self, top_k: int) -> "Split":
        return replace(self, routing=replace(self.routing, top_k=top_k))


def read_split(folder: Path, config: Mapping[str, Any]) -> Split:
    """The split of a model directory: from its experts.json, else from its config.json. Raises `CheckpointError`."""
    path = folder / FILE
    if not path.is_file() and not isinstance(config.get(FIELD), dict):
        raise CheckpointError(f"{folder}: has no {FILE}: split it with `regraft grow experts {folder} --out DIR`")
    try:
        return parse(json.loads(path.read_text("utf-8")) if path.is_file() else config[FIELD])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a split of experts ({type(error).__name__}: {error}): make it again") from None


def parse(data: Any) -> Split:
    """A `Split` from what `to_dict` gave. Raises `ValueError`, `KeyError` or `TypeError`."""
    fields = dict(data)
    if fields.pop("schema") != SCHEMA:
        raise ValueError("of another version of regraft")
    kind, listed = fields.pop("kind"), fields.pop("layers")
    routing = Routing(**fields)
    for name, allowed in (("gate", Gate), ("score", Score), ("rule", Rule)):
        if getattr(routing, name) not in get_args(allowed):
            raise ValueError(f"{name} is {getattr(routing, name)!r}")
    if kind not in ("neurons", "copies") or not all(type(n) is int for n in (routing.experts, routing.top_k)):
        raise ValueError("not what a split has")
    if not 1 <= routing.top_k <= routing.experts:
        raise ValueError(f"top_k {routing.top_k} of {routing.experts} experts")
    layers = tuple(Layer(str(one["path"]), tuple(map(int, one["order"])) if "order" in one else None) for one in listed)
    if not layers or any(one.order is not None and sorted(one.order) != list(range(len(one.order))) for one in layers):
        raise ValueError("an order that is none")
    return Split(routing, layers, kind)
