"""The names of dimensions, kept with the layer that makes them.

A stock `Dense` writes what its `config_keys` list, and drops on loading what it does not know: the names lie in its config.json, plain
sentence-transformers opens the model without them, `regraft.text.load` with them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from sentence_transformers.util import batch_to_device

from regraft.errors import CheckpointError, ParameterError

KEY = "concepts"


def name_dimensions(model: SentenceTransformer, names: Sequence[str]) -> None:
    """Keep `names` with every layer of `model` that has as many outputs. Raises `ParameterError` where none has."""
    found = [module for module in model.modules() if isinstance(module, Dense) and module.out_features == len(names)]
    if not found:
        raise ParameterError(f"{len(names):,} names of concepts, and no layer of that width")
    for layer in found[-1:] if not _routed(model) else found:
        layer.config_keys = [*Dense.config_keys, KEY]
        setattr(layer, KEY, list(names))


def concept_layers(model: SentenceTransformer) -> list[Dense]:
    """The layers whose outputs are named concepts: one, or two of an encoder of two towers."""
    return [module for module in model.modules() if isinstance(module, Dense) and hasattr(module, KEY)]


def concept_names(model: SentenceTransformer) -> list[str]:
    """The name of each dimension. Raises `CheckpointError` for a model whose dimensions have none."""
    for module in model.modules():
        names: Any = getattr(module, KEY, None)
        if isinstance(names, list) and len(names) == model.get_embedding_dimension():
            return list(names)
    raise CheckpointError("the dimensions of this model have no names: train one with `regraft text train --method sesa`")


def restore_names(model: SentenceTransformer, path: Path) -> None:
    """Give a model that was opened from `path` the names that were saved with it; ESA has brought its own."""
    if any(isinstance(getattr(module, KEY, None), list) for module in model.modules()):
        return
    for file in sorted(path.rglob("config.json")):
        try:
            names = json.loads(file.read_text("utf-8")).get(KEY)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            name_dimensions(model, names)
            return


@torch.no_grad()
def append_concept(model: SentenceTransformer, name: str, text: str = "") -> None:
    """One more dimension without training, at the end: its row is the vector of its name and text before the layer.

    The row has the mean length of the others and the layer's mean bias; the outputs of the other dimensions stay bit for bit. Raises
    `ParameterError` for a name that is there already.
    """
    names, layers = concept_names(model), concept_layers(model)
    if name in names:
        raise ParameterError(f"concept '{name}' is a dimension already")
    described = ": ".join(filter(None, (name, text)))
    for layer in layers:
        before = inputs_of(model, layer, [described])[0]
        weight, bias = layer.linear.weight, layer.linear.bias
        row = before / before.norm().clamp(min=1e-12) * weight.norm(dim=1).mean()
        layer.linear.weight = torch.nn.Parameter(torch.cat([weight, row[None]]))
        layer.linear.bias = torch.nn.Parameter(torch.cat([bias, bias.mean()[None]]))
        layer.linear.out_features = layer.out_features = len(names) + 1
    name_dimensions(model, [*names, name])


@torch.no_grad()
def inputs_of(model: SentenceTransformer, layer: Dense, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
    """What enters `layer` for each text (n, d), in evaluation mode."""
    kept: list[torch.Tensor] = []
    hook = layer.linear.register_forward_pre_hook(lambda _, given: kept.append(given[0].detach()))
    try:
        model.eval()
        for task in ("query", "document"):
            for start in range(0, 0 if kept else len(texts), batch_size):
                features = model.preprocess(list(texts[start : start + batch_size]), task=task)
                model(batch_to_device(features, model.device), task=task)
    finally:
        hook.remove()
    return torch.cat(kept)


def _routed(model: SentenceTransformer) -> bool:
    return len(model) == 1 and hasattr(model[0], "sub_modules")
