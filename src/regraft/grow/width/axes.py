"""Which axis of which tensor of a transformer runs over what: the residual stream, query heads, key-value heads, neurons.

Enters: a checkpoint. Leaves: for every stored tensor what each of its dimensions runs over, and whether it writes there or reads from it.
Names are those that `transformers` gives in memory; every size is held against the architecture on the meta device.
"""

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regraft.checkpoint import Checkpoint
from regraft.checkpoint.architecture import Architecture, load_config, text_config
from regraft.errors import CheckpointError, ParameterError

Axis = Literal["hidden", "heads", "groups", "ffn"]
Side = Literal["write", "read", "norm", "last"]
KNOWN = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gpt2", "bert", "roberta", "xlm-roberta", "distilbert", "vit")
RMS = ("llama", "mistral", "qwen2", "qwen3", "phi3")  # norms that take no mean away


@dataclass(frozen=True)
class Place:
    """A dimension runs over `axes`, one behind the other (fused projections), and its tensor writes to them, reads them or norms them.

    `side` "last" is the norm before a head that is tied to the table of inputs.
    """

    axes: tuple[Axis, ...]
    side: Side


def _places(*kinds: str) -> tuple[Place | None, ...]:
    """ "w:heads,groups,groups" writes, "r:" reads, "n:" norms, "" is left alone."""
    sides: dict[str, Side] = {"w": "write", "r": "read", "n": "norm"}
    return tuple(Place(tuple(kind[2:].split(",")), sides[kind[0]]) if kind else None for kind in kinds)  # type: ignore[arg-type]


# what a module is by the end of its name -> (weight, bias); the first that fits counts
_ROLES: list[tuple[str, tuple[Place | None, ...], tuple[Place | None, ...]]] = [
    (r"[qk]_norm", _places(""), ()),
    (r"q_proj|attention\.self\.query|q_lin", _places("w:heads", "r:hidden"), _places("w:heads")),
    (r"[kv]_proj|attention\.self\.(key|value)|[kv]_lin", _places("w:groups", "r:hidden"), _places("w:groups")),
    (r"qkv_proj", _places("w:heads,groups,groups", "r:hidden"), _places("w:heads,groups,groups")),
    (r"attn\.c_attn", _places("r:hidden", "w:heads,groups,groups"), _places("w:heads,groups,groups")),
    (r"attn\.c_proj", _places("r:heads", "w:hidden"), _places("w:hidden")),
    (r"o_proj|attention\.output\.dense|out_lin", _places("w:hidden", "r:heads"), _places("w:hidden")),
    (r"gate_up_proj", _places("w:ffn,ffn", "r:hidden"), _places("w:ffn,ffn")),
    (r"gate_proj|up_proj|mlp\.fc1|intermediate\.dense|ffn\.lin1", _places("w:ffn", "r:hidden"), _places("w:ffn")),
    (r"mlp\.c_fc", _places("r:hidden", "w:ffn"), _places("w:ffn")),
    (r"mlp\.c_proj", _places("r:ffn", "w:hidden"), _places("w:hidden")),
    (r"down_proj|mlp\.fc2|output\.dense|ffn\.lin2", _places("w:hidden", "r:ffn"), _places("w:hidden")),
    (r"patch_embeddings\.projection", _places("w:hidden", "", "", ""), _places("w:hidden")),
    (r"embed_tokens|wte|wpe|(word|position|token_type)_embeddings", _places("", "w:hidden"), ()),
    (r"pooler\.dense|transform\.dense|lm_head\.dense|vocab_transform|classifier\.dense|pre_classifier",
     _places("w:hidden", "r:hidden"), _places("w:hidden")),
    (r"lm_head|decoder|vocab_projector|classifier|score|out_proj|seq_relationship|qa_outputs", _places("", "r:hidden"), _places("")),
    (r"[A-Za-z_]*(norm|Norm)|layernorm_(before|after)|ln_[12f]", _places("n:hidden"), _places("n:hidden")),
]  # fmt: skip
_LOOSE = {
    "cls_token": _places("", "", "w:hidden"),
    "position_embeddings": _places("", "", "w:hidden"),
    "mask_token": _places("", "", "w:hidden"),
}
_LAST_NORM = re.compile(r"(.*\.)?(model\.norm|ln_f|transform\.LayerNorm|lm_head\.layer_norm|vocab_layer_norm)\.(weight|bias)")


@dataclass(frozen=True)
class Width:
    """Sizes of a model across: of the residual stream, how many heads and key-value heads of what size, neurons of a layer."""

    hidden: int
    heads: int
    groups: int
    head_dim: int
    ffn: int

    def size(self, axis: Axis) -> int:
        return {"hidden": self.hidden, "heads": self.heads * self.head_dim, "groups": self.groups * self.head_dim, "ffn": self.ffn}[axis]

    def at(self, hidden: int, ffn: int | None = None) -> "Width":
        """The same shape `hidden` wide: size of heads and heads a group stay, so rotary positions and scores mean what they did.

        Raises `ParameterError` for a width with which the number of key-value heads would not be whole, with the nearest that can be had.
        """
        step = self.hidden // math.gcd(self.hidden, self.groups)
        if hidden < 1 or hidden % step:
            below = max(step, hidden // step * step)
            near = sorted({below, below + step} - {self.hidden}) if hidden > 0 else [step]
            shape = f"{self.heads} heads of {self.head_dim}" + (f" in {self.groups} groups" if self.groups != self.heads else "")
            raise ParameterError(
                f"--hidden {hidden}: heads keep their size and their groups ({shape} at {self.hidden}), so the width is "
                f"a multiple of {step}: choose {' or '.join(map(str, near))}"
            )
        if ffn is not None and ffn < 1:
            raise ParameterError(f"--ffn {ffn}: give 1 or more neurons")
        wider = round(self.ffn * hidden / self.hidden) if ffn is None else ffn
        return Width(hidden, self.heads * hidden // self.hidden, self.groups * hidden // self.hidden, self.head_dim, wider)


@dataclass(frozen=True)
class Size:
    """What is asked for: the width of the residual stream, and neurons a layer (None: in proportion)."""

    hidden: int
    ffn: int | None = None

    def __str__(self) -> str:
        return f"hidden {self.hidden}" + ("" if self.ffn is None else f", ffn {self.ffn}")


@dataclass(frozen=True)
class Axes:
    """`checkpoint` seen across.

    Attributes
    ----------
    width : its sizes. called : stored name -> name in memory. places : stored name -> what each dimension runs over, None: nothing of ours.
    kind : its model_type. tied : whether the head is the table of inputs. depth : number of layers.
    """

    checkpoint: Checkpoint
    width: Width
    called: Mapping[str, str]
    places: Mapping[str, tuple[Place | None, ...]]
    kind: str
    tied: bool
    depth: int

    @property
    def takes_mean(self) -> bool:
        """Whether norms take the mean away (LayerNorm) or not (RMSNorm)."""
        return self.kind not in RMS

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> "Axes":
        """The axes of `checkpoint`. Raises `CheckpointError` for an architecture that is not known, or a tensor in it that is not."""
        architecture = Architecture(checkpoint.path, checkpoint.config)
        config = text_config(architecture.config)
        if config.model_type not in KNOWN or config is not architecture.config or architecture.model is None:
            raise CheckpointError(
                f"{checkpoint.path}: which of its tensors run over what is not known for '{architecture.config.model_type}': "
                f"width is known for {', '.join(KNOWN)}"
            )
        width = _width_of(config)
        tied = bool(getattr(config, "tie_word_embeddings", False)) and architecture.model.get_output_embeddings() is not None
        called, places = {}, {}
        for stored, one in architecture.names_of(checkpoint.tensors).items():
            found = _found(one.name, tied)
            shape = tuple(checkpoint.tensors[stored].shape)
            expected = None if found is None else tuple(_size(width, place, size) for place, size in zip(found, shape, strict=False))
            if one.packed or found is None or len(found) != len(shape) or expected != shape:
                raise CheckpointError(f"{checkpoint.path}: what {one.name} {shape} runs over is not known, so it cannot be widened")
            called[stored], places[stored] = one.name, found
        return cls(checkpoint, width, called, places, config.model_type, tied, int(config.num_hidden_layers))

    def size_at(self, width: Width) -> tuple[int, int]:
        """(bytes, parameters) of the model at `width`."""
        size = count = 0
        for name, info in self.checkpoint.tensors.items():
            places = self.places.get(name) or (None,) * len(info.shape)
            own = math.prod(_size(width, place, side) for place, side in zip(places, info.shape, strict=True))
            size, count = size + own * info.nbytes // max(math.prod(info.shape), 1), count + own
        return size, count

    def layer(self, stored: str) -> int | None:
        """The layer that a tensor belongs to, None outside the layers."""
        return layer_of(self.called.get(stored, stored))

    def config(self, width: Width, eps: float = 1.0) -> dict[str, Any]:
        """config.json at `width`; `eps` is the factor of what norms add to the variance."""
        new: dict[str, Any] = copy.deepcopy(self.checkpoint.config)
        known = load_config(self.checkpoint.path, self.checkpoint.config)
        spelled = {key: known.attribute_map.get(key, key) for key in ("hidden_size", "num_attention_heads")}
        new |= {spelled["hidden_size"]: width.hidden, spelled["num_attention_heads"]: width.heads, _ffn_field(known): width.ffn}
        if hasattr(known, "num_key_value_heads"):
            new["num_key_value_heads"] = width.groups
        if getattr(known, "head_dim", None) is not None:
            new["head_dim"] = width.head_dim
        if eps != 1.0:
            new["rms_norm_eps"] = known.rms_norm_eps * eps
        return new


def layer_of(name: str) -> int | None:
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None


def _ffn_field(config: Any) -> str:
    return next(key for key in ("intermediate_size", "n_inner", "hidden_dim") if hasattr(config, key))


def _width_of(config: Any) -> Width:
    hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(config, "head_dim", None) or hidden // heads)
    return Width(hidden, heads, groups, head_dim, int(getattr(config, _ffn_field(config)) or 4 * hidden))


def _size(width: Width, place: Place | None, size: int) -> int:
    return size if place is None else sum(width.size(axis) for axis in place.axes)


def _found(name: str, tied: bool) -> tuple[Place | None, ...] | None:
    module, _, kind = name.rpartition(".")
    if kind in _LOOSE:
        return _LOOSE[kind]
    if kind == "bias" and module.endswith(("cls.predictions", "lm_head")):  # over the vocabulary
        return (None,)
    if tied and _LAST_NORM.fullmatch(name):
        return (Place(("hidden",), "last"),)
    if tied and re.search(r"(^|\.)(lm_head|decoder|vocab_projector)\.weight$", name):
        return _places("", "w:hidden")
    for pattern, weight, bias in _ROLES:
        if re.search(rf"(^|\.)({pattern})$", module):
            return weight if kind == "weight" else bias or None
    return None
