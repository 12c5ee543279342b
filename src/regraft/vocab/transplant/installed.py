"""A model in memory with its vocabulary exchanged: load, install tables, take changed tensors back out under their names on disk."""

from collections.abc import Iterator
from typing import Any

import torch

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError
from regraft.graft.factors import densify, install_factors, is_factorised
from regraft.vocab.transplant.transplant import Transplant, primitives_name


def install(model: Any, result: Transplant) -> None:
    """Give `model` the tables of `result`, resizing it to their number of rows, and the layers that came with them.

    Factorised tables take the place of dense ones, or the other way round.
    """
    if result.primitives is not None:
        head = None if result.head is None or result.head_primitives is None else (result.head, result.head_primitives)
        install_factors(model, result.input, result.primitives, head, result.bias)
        return
    densify(model)
    model.resize_token_embeddings(result.rows, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(result.input)
        head = model.get_output_embeddings()
        if head is not None and result.head is not None:
            if head.weight is model.get_input_embeddings().weight:  # resizing ties what the config calls tied, whatever the files hold
                head.weight = torch.nn.Parameter(result.head.to(head.weight))
            head.weight.copy_(result.head)
        if result.shared:
            head.weight = model.get_input_embeddings().weight
        if head is not None and result.bias is not None and getattr(head, "bias", None) is not None:
            head.bias.copy_(result.bias)
        for name, values in result.layers.items():
            model.get_parameter(name).copy_(values)
        for name, buffer in model.named_buffers():
            if name.endswith("final_logits_bias") and result.bias is not None:
                buffer.copy_(result.bias)


def live_tables(model: Any) -> dict[str, torch.Tensor]:
    """What `model` holds over its vocabulary, by role: "input", "head" unless it is the input table, and "bias" where there is one."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tables = {"input": embedding.weight}
    if head.weight is not embedding.weight:
        tables["head"] = head.weight
    if getattr(head, "bias", None) is not None:
        tables["bias"] = head.bias
    return tables


def changed_tensors(model: Any, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """What differs between `model` and its files: tables and every trained tensor, under the stored names and in the stored dtypes.

    Raises `CheckpointError` for a parameter that the files do not hold under a recognizable name.
    """
    found = changed_tables(model, checkpoint)
    for _, stored, parameter in stored_parameters(model, checkpoint):
        before = checkpoint.read(stored)
        if before.shape != parameter.shape or not torch.equal(before, parameter.detach().cpu().to(before.dtype)):
            found[stored] = parameter
    return {name: stored_form(tensor, checkpoint, name) for name, tensor in found.items()}


def stored_parameters(model: Any, checkpoint: Checkpoint) -> Iterator[tuple[str, str, torch.nn.Parameter]]:
    """Every parameter of `model` that is not over the vocabulary, with its name there and its name in the files.

    Raises `CheckpointError` for a parameter that the files do not hold under a recognizable name.
    """
    embeddings = model.get_input_embeddings(), model.get_output_embeddings()
    tables = {id(p) for module in embeddings if module is not None for p in module.parameters()}
    prefix = f"{model.base_model_prefix}."
    computed = set(model._keys_to_ignore_on_save or ())  # such as sinusoidal positions: no file holds them
    for name, parameter in model.named_parameters():
        if id(parameter) in tables or name in computed:
            continue
        stored = next((n for n in (name, name.removeprefix(prefix), prefix + name) if n in checkpoint.tensors), None)
        if stored is None:
            raise CheckpointError(f"{checkpoint.path}: parameter {name} is not stored under that name, so it cannot be written back")
        yield name, stored, parameter


def changed_tables(model: Any, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Input table, untied head and output bias of `model` under their stored names, in the stored dtypes.

    A head that the files tie to the input table and that `model` has parted from it comes under the model's own name for it.
    """
    layout, head = checkpoint.layout, model.get_output_embeddings()
    found: dict[str, torch.Tensor] = {layout.input[0]: model.get_input_embeddings().weight}
    if is_factorised(model):
        found[primitives_name(layout.input[0])] = model.get_input_embeddings().primitives
    if layout.head:
        found[layout.head[0]] = head.weight
        if is_factorised(model):
            found[primitives_name(layout.head[0])] = head.primitives
    elif layout.tied and head.weight is not found[layout.input[0]]:
        found |= parted_head(model, checkpoint, head.weight, getattr(head, "bias", None))
    if layout.bias and getattr(head, "bias", None) is not None:
        found[layout.bias[0]] = head.bias.reshape(*checkpoint.tensors[layout.bias[0]].shape[:-1], -1)
    return {name: stored_form(tensor, checkpoint, name) for name, tensor in found.items()}


def parted_head(model: Any, checkpoint: Checkpoint, weight: torch.Tensor, bias: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """What to store of a head that the files tie to the input table and that is no more: its weight, and its bias if that was tied too."""
    head = model.get_output_embeddings()
    name = next(name for name, module in model.named_modules() if module is head)
    stored = {f"{name}.weight": weight}
    if bias is not None and f"{name}.bias" not in checkpoint.tensors:
        stored[f"{name}.bias"] = bias
    return stored


def stored_form(tensor: torch.Tensor, checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """`tensor` as the files keep the tensor `name`, or the input table where they have no such tensor."""
    known = name if name in checkpoint.tensors else checkpoint.layout.input[0]
    return tensor.detach().cpu().to(checkpoint.tensors[known].torch_dtype)
