"""The layers of a checkpoint, found without loading it.

Enters: a checkpoint. Leaves: which stored tensors belong to which layer, what config.json calls their number, and the config of the same
architecture with another number of them.
"""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from regraft.checkpoint import Checkpoint
from regraft.checkpoint.architecture import Architecture, load_config, text_config
from regraft.errors import CheckpointError, ParameterError

# what writes into the residual stream, as transformers names it within a layer
WRITER = re.compile(
    r"(?:(?:self_attn|attn|attention|self_attention|sa)\.(?:self\.)?(?:o_proj|out_proj|out_lin|c_proj|dense|wo)"
    r"|attention\.output\.dense|output\.dense|(?:mlp|ffn|feed_forward|block_sparse_moe)\.(?:experts\.(?:\d+\.)?)?"
    r"(?:shared_expert\.)?(?:down_proj|c_proj|fc2|w2|lin2|fc_out|dense_4h_to_h|wo)|fc2|mixer\.out_proj)(?:\.(?:weight|bias))?"
)
MOST = 10_000  # layers; ten times the deepest transformers that were ever trained
POST_NORM = re.compile(r"(?:attention\.output|output|intermediate)\.LayerNorm|sa_layer_norm|output_layer_norm|(?<!_)attention\.LayerNorm")


@dataclass(frozen=True)
class LayerStack:
    """`checkpoint` seen as layers.

    Attributes
    ----------
    depth : how many layers there are.
    layers : for each layer the stored names of its tensors by template, the name with ``{}`` in the place of the layer's number.
    outside : stored names of all other tensors, before and behind the layers in the files' order.
    path, field : where config.json keeps the number of layers: the nested config, and the name in it.
    prefix : what transformers calls the list of layers.
    called : template -> what transformers calls the tensor within a layer.
    """

    checkpoint: Checkpoint
    depth: int
    layers: tuple[Mapping[str, str], ...]
    outside: tuple[str, ...]
    path: tuple[str, ...]
    field: str
    prefix: str
    called: Mapping[str, str]

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> "LayerStack":
        """The layers of `checkpoint`. Raises `CheckpointError` for an architecture that is no single list of layers."""
        architecture = Architecture(checkpoint.path, checkpoint.config)
        if architecture.model is None:
            raise CheckpointError(f"{checkpoint.path}: its architecture cannot be built without weights, so its layers are not known")
        path, field, depth = _depth_of(checkpoint, architecture)
        prefix = _list_of_layers(checkpoint, architecture.model, depth)
        inside = re.compile(re.escape(prefix) + r"\.(\d+)\.(.+)")
        layers: list[dict[str, str]] = [{} for _ in range(depth)]
        outside, called = [], {}
        names = architecture.names_of(checkpoint.tensors)
        for stored in checkpoint.tensors:
            match = inside.fullmatch(names[stored].name) if stored in names else None
            if match is None:
                outside.append(stored)
                continue
            number = int(match[1])
            template = _template(stored, number)
            layers[number][template] = stored
            called[template] = match[2]
        empty = [number for number, layer in enumerate(layers) if not layer]
        if empty:
            raise CheckpointError(f"{checkpoint.path}: its files hold nothing of layer {empty[0]}, though config.json says {field}={depth}")
        return cls(checkpoint, depth, tuple(layers), tuple(outside), path, field, prefix, called)

    @property
    def templates(self) -> tuple[str, ...]:
        """Templates of a layer. Raises `CheckpointError` where layers are not all alike: then none is a mix of others."""
        first = self.layers[0]
        tensors = self.checkpoint.tensors
        for number, layer in enumerate(self.layers):
            same = layer.keys() == first.keys() and all(tensors[layer[t]].shape == tensors[first[t]].shape for t in first)
            if not same:
                raise CheckpointError(
                    f"{self.checkpoint.path}: layer {number} holds other tensors than layer 0: its layers cannot be mixed"
                )
        return tuple(first)

    @cached_property
    def writers(self) -> tuple[str, ...]:
        """Templates of the tensors that write into the residual stream; without them a layer passes its input on.

        Raises `CheckpointError` where they are not known, or where a norm stands behind the sum.
        """
        if any(POST_NORM.search(name) for name in self.called.values()):
            raise CheckpointError(f"{self.checkpoint.path}: its layers normalize behind the sum (post-norm), so none of them can be silent")
        found = tuple(template for template, name in self.called.items() if WRITER.fullmatch(name))
        kinds = {name.split(".")[0] for template, name in self.called.items() if template in found}
        if len(kinds) < 2:
            known = ", ".join(sorted(self.called.values())[:8])
            raise CheckpointError(
                f"{self.checkpoint.path}: which tensors of a layer write into the residual stream is not known ({known} ...)"
            )
        return found

    def config(self, sources: Sequence[int]) -> dict[str, Any]:
        """config.json for layers that come from layers `sources` of this one; what it lists layer by layer follows."""
        new: dict[str, Any] = copy.deepcopy(self.checkpoint.config)
        part, known = new, load_config(self.checkpoint.path, self.checkpoint.config)
        for key in self.path:
            part, known = part.setdefault(key, {}), getattr(known, key)
        part[self.field] = len(sources)
        for key, value in vars(known).items():
            if isinstance(value, list) and len(value) == self.depth and not key.startswith("_") and key != "architectures":
                part[key] = [value[number] for number in sources]
        return new


def check_depth(depth: int) -> None:
    """Raise `ParameterError` for a number of layers that no model has."""
    if not 1 <= depth <= MOST:
        raise ParameterError(f"--layers {depth}: give 1 to {MOST:,}")


def size_at(checkpoint: Checkpoint, depth: int) -> tuple[int, int]:
    """(bytes, parameters) of `checkpoint` with `depth` layers, by what a layer of it takes on average; nothing is built for that."""
    layers: set[str] = set()
    size = count = size_a_layer = count_a_layer = 0
    for name, info in checkpoint.tensors.items():
        number = next((part for part in name.split(".") if part.isdigit()), None)
        if number is None:
            size, count = size + info.nbytes, count + math.prod(info.shape)
        else:
            layers.add(number)
            size_a_layer, count_a_layer = size_a_layer + info.nbytes, count_a_layer + math.prod(info.shape)
    each = max(len(layers), 1)
    return size + size_a_layer * depth // each, count + count_a_layer * depth // each


def _template(stored: str, number: int) -> str:
    """`stored` with ``{}`` for the part of its name that is `number`."""
    parts = stored.split(".")
    places = [place for place, part in enumerate(parts) if part == str(number)]
    parts[places[0]] = "{}"
    return ".".join(parts)


def _depth_of(checkpoint: Checkpoint, architecture: Architecture) -> tuple[tuple[str, ...], str, int]:
    """(path, field, number of layers) in config.json."""
    text = text_config(architecture.config)
    path = next(((key,) for key, value in vars(architecture.config).items() if value is text and text is not architecture.config), ())
    if getattr(architecture.config, "is_encoder_decoder", False):
        raise CheckpointError(f"{checkpoint.path}: an encoder-decoder has two stacks of layers; models with one can be grown")
    depth = getattr(text, "num_hidden_layers", None)
    if type(depth) is not int or depth < 1:
        raise CheckpointError(f"{checkpoint.path}: config.json does not say how many layers there are (num_hidden_layers)")
    return path, str(text.attribute_map.get("num_hidden_layers", "num_hidden_layers")), depth


def _list_of_layers(checkpoint: Checkpoint, model: nn.Module, depth: int) -> str:
    """Name of the one list of `depth` layers that lies in no other list."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module) == depth]
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if len(outer) != 1:
        said = "no list" if not outer else f"several lists ({', '.join(outer)})"
        raise CheckpointError(
            f"{checkpoint.path}: {type(model).__name__} has {said} of {depth} layers: models whose layers stand in one list can be grown"
        )
    return str(outer[0])
