"""Which layer is read. Layers above it are cut off, so that a saved encoder is smaller and faster, and made of stock parts only.

Enters: a `Transformer` of sentence-transformers. Leaves: the same one, changed in place.
"""

from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn

from regraft.errors import ParameterError


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The layers of a transformer, in order. Raises `ParameterError` for a model that has not one single stack of them."""
    count = getattr(model.config, "num_hidden_layers", None)
    stacks = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if not stacks:
        raise ParameterError(f"{type(model).__name__}: no single stack of layers in it: only its last layer can be read")
    return stacks[0]


def read_layer(body: Transformer, layer: int | None, *, final_norm: bool = False) -> Transformer:
    """Let `body` give the hidden states after `layer`, from 0 (embeddings) to N (last) or counted back from -1.

    Layer N comes after the model's final norm, as transformers gives it. A layer below comes raw, or with `final_norm` through that norm.
    For a raw one the next layer is kept, unused, because the last kept layer's own output would be normed. Raises `ParameterError`.
    """
    if layer is None:
        return body
    model: Any = body.model
    blocks = blocks_of(model)
    count = len(blocks)
    number = layer if layer >= 0 else count + 1 + layer
    if not 0 <= number <= count:
        raise ParameterError(f"layer={layer}: the model has layers 0 to {count}, or -1 to -{count + 1} counted back")
    if number == count:
        return body
    raw = not final_norm or number == 0
    cut(model, blocks, number + 1 if raw else number)
    if raw:
        kinds: Any = body.modality_config
        for read in kinds.values():
            if read["method"] == "forward":
                read["method_output_name"] = ["hidden_states", number]
    return body


def cut(model: Any, blocks: nn.ModuleList, keep: int) -> None:
    """Only the first `keep` layers, in the configuration too."""
    count = len(blocks)
    del blocks[keep:]
    for name, value in list(vars(model.config).items()):
        if isinstance(value, list) and len(value) == count and not name.startswith("_"):
            setattr(model.config, name, value[:keep])  # kinds of layers, as Gemma and Qwen list them
    model.config.num_hidden_layers = keep


def all_layers(body: Transformer) -> int:
    """Let `body` hand on the states of all layers; how many there are, the embeddings among them."""
    count = len(blocks_of(body.model)) + 1
    body.model.config.output_hidden_states = True
    return count


def one_hot(count: int, chosen: list[int]) -> torch.Tensor:
    """Weights (count,) of 1 for each chosen layer, counted from 0 or back from -1. Raises `ParameterError`."""
    weights = torch.zeros(count)
    for layer in chosen:
        if not -count <= layer < count:
            raise ParameterError(f"layer {layer}: the model has layers 0 to {count - 1}")
        weights[layer] = 1
    return weights
