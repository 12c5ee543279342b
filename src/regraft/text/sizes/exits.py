"""Vectors after several layers of an encoder from one forward pass.

Enters: a `SentenceTransformer`, the features of one or several columns of texts. Leaves: for each layer asked for, one (batch, D) tensor a
column, as the model's own pooling makes it, before any scaling to unit length.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import merge_feature_batches
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from regraft.errors import ParameterError
from regraft.text.sizes.size import Size

FINAL_NORMS = ("final_norm", "norm", "ln_f", "final_layer_norm", "final_layernorm")  # what pre-norm models call it
Features = dict[str, Any]


def exits(model: nn.Module, columns: Iterable[Features], layers: Sequence[int], chunk: int | None = None) -> dict[int, list[Tensor]]:
    """Pooled states after each of `layers` (0 is the embedding output), a tensor (batch, D) a column; columns share one forward pass.

    Parameters
    ----------
    chunk : texts that go through the model at once; the rest of a batch is computed again in the backward pass, so memory follows the chunk
        and the loss still sees the whole batch.
    """
    columns = list(columns)
    rows = [len(one["attention_mask"]) for one in columns]
    merged = merge_feature_batches(columns) if len(columns) > 1 else columns[0]
    batches = [part for one in ([merged] if merged is not None else columns) for part in _parts(one, chunk)]
    found = []
    for batch in batches:
        if chunk is None or not torch.is_grad_enabled():
            found.append(_pooled(model, batch, layers))
        else:
            found.append(checkpoint(_pooled, model, batch, layers, use_reentrant=False))
    return {layer: list(torch.cat([one[at] for one in found]).split(rows)) for at, layer in enumerate(layers)}  # type: ignore[no-untyped-call]


def shape_of(model: SentenceTransformer) -> Size:
    """(layers, dimensions) of an encoder. Raises `ParameterError` where its first module is no transformer with layers of its own."""
    body = model[0]
    if not isinstance(body, Transformer):
        raise ParameterError(f"{type(body).__name__} comes first in this encoder: sizes need a transformer of several layers")
    _, layers = layers_of(body.auto_model)
    return len(layers), int(model.get_embedding_dimension() or 0)


def backbone_of(model: SentenceTransformer) -> Any:
    """The transformer of an encoder, as `transformers` has it."""
    body: Any = model[0]
    return body.auto_model


def layers_of(backbone: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list of a transformer's layers and its path. Raises `ParameterError` for an architecture without one (ALBERT shares a layer)."""
    depth = int(backbone.config.get_text_config().num_hidden_layers)  # type: ignore[union-attr, operator]  # a transformers config
    for path, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and depth > 0:
            return path, module
    raise ParameterError(f"{type(backbone).__name__}: no list of its {depth} layers is found: it cannot be cut in depth")


def final_norm(backbone: nn.Module) -> nn.Module:
    """The norm that a pre-norm model puts after its last layer; identity for post-norm models such as BERT.

    Every exit goes through it in training and in use (INFERRED: the paper has BERT only).
    """
    path, _ = layers_of(backbone)
    for owner in (backbone.get_submodule(path.rpartition(".")[0]), backbone):
        for name in FINAL_NORMS:
            if isinstance(found := getattr(owner, name, None), nn.Module):
                return found
    return nn.Identity()


def tail_of(model: SentenceTransformer) -> list[nn.Module]:
    """What follows the transformer: pooling and so on, without a scaling to unit length at the end."""
    modules = list(model)[1:]
    return modules[:-1] if modules and isinstance(modules[-1], Normalize) else modules


def states_after(model: nn.Module, features: Features, layers: Sequence[int]) -> tuple[Features, list[Tensor]]:
    """What the model gives for `features`, and its hidden states (batch, length, d) after each of `layers`; one forward pass."""
    backbone = backbone_of(inner(model))
    depth, norm = len(layers_of(backbone)[1]), final_norm(backbone)
    with _all_states(backbone.config):
        out = model(dict(features))
    every = out.pop("all_layer_embeddings")
    return out, [out["token_embeddings"] if layer == depth else norm(every[layer]) for layer in layers]


def inner(model: nn.Module) -> SentenceTransformer:
    """The encoder inside what a trainer wraps around it (data-parallel, compiled)."""
    while not isinstance(model, SentenceTransformer):
        model = model.module if hasattr(model, "module") else model._orig_mod  # type: ignore[assignment]  # both are modules
    return model


def _pooled(model: nn.Module, features: Features, layers: Sequence[int]) -> tuple[Tensor, ...]:
    out, states = states_after(model, features, layers)
    found = []
    for state in states:
        one = {**out, "token_embeddings": state}
        for module in tail_of(inner(model)):
            one = module(one)
        found.append(one["sentence_embedding"])
    return tuple(found)


def _parts(features: Features, chunk: int | None) -> Iterator[Features]:
    rows = len(features["attention_mask"])
    for start in range(0, rows, chunk or rows):
        end = start + (chunk or rows)
        yield {key: value[start:end] if isinstance(value, Tensor) and len(value) == rows else value for key, value in features.items()}


@contextmanager
def _all_states(config: Any) -> Iterator[None]:
    before = config.output_hidden_states
    config.output_hidden_states = True
    try:
        yield
    finally:
        config.output_hidden_states = before
