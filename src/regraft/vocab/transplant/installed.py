"""A model in memory with its vocabulary exchanged: load, install tables, take changed tensors back out under their names on disk."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError
from regraft.graft.factors import densify, install_factors, is_factorised
from regraft.language.tables import head_of, is_tied, live_tables, resize, tensors_of
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
    resize(model, result.rows)
    with torch.no_grad():
        embedding, head = model.get_input_embeddings(), head_of(model)
        embedding.weight.copy_(result.input)
        if head is not None and result.head is not None:
            if head.weight is embedding.weight:
                head.weight = torch.nn.Parameter(result.head.to(head.weight))
            head.weight.copy_(result.head)
        if result.shared:
            head.weight = embedding.weight
        tables = live_tables(model)
        if result.bias is not None and "bias" in tables:
            tables["bias"].copy_(result.bias.reshape(-1))
        held = tensors_of(model)
        for name, values in {**result.layers, **result.others}.items():
            held[name].copy_(values)


def changed_tensors(model: Any, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """What differs between `model` and its files: tables and every trained tensor, under the stored names and in the stored dtypes.

    What the files hold in another form than memory does cannot have trained: `check_writable` refuses that before.
    """
    found = changed_tables(model, checkpoint)
    for _, stored, parameter in stored_parameters(model, checkpoint):
        before = checkpoint.read(stored)
        if before.shape != parameter.shape or not torch.equal(before, parameter.detach().cpu().to(before.dtype)):
            found[stored] = parameter
    return {name: stored_form(tensor, checkpoint, name) for name, tensor in found.items()}


def check_writable(model: Any, checkpoint: Checkpoint, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Raise `CheckpointError` for one of `parameters`, which are to train, that the files do not hold as it is. Asked before training."""
    wanted = {id(parameter) for parameter in parameters}
    tables = {id(table) for table in _tables(model)}
    held = {id(parameter) for _, _, parameter in stored_parameters(model, checkpoint)}
    for name, parameter in model.named_parameters():
        if id(parameter) in wanted - tables - held:
            raise CheckpointError(
                f"{checkpoint.path}: {name} is stored in another form than it trains in (such as one tensor for each expert), so it cannot "
                "be written back: choose --train-set parameters=rows or parameters=embeddings"
            )


def stored_parameters(model: Any, checkpoint: Checkpoint) -> Iterator[tuple[str, str, torch.nn.Parameter]]:
    """Every parameter of `model` that is not over the vocabulary and lies in the files as it is, with its name there and in the files."""
    tables = {id(table) for table in _tables(model)}
    names = {called.name: stored for stored, called in checkpoint.layout.called.items() if not called.packed}
    for name, parameter in model.named_parameters():
        if id(parameter) not in tables and name in names:
            yield name, names[name], parameter


def _tables(model: Any) -> list[torch.nn.Parameter]:
    modules = model.get_input_embeddings(), head_of(model)
    return [parameter for module in modules if module is not None for parameter in module.parameters()]


def changed_tables(model: Any, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Input table, untied head and output bias of `model` under their stored names, in the stored dtypes.

    A head that the files tie to the input table and that `model` has parted from it comes under the model's own name for it.
    """
    layout, head, tables = checkpoint.layout, head_of(model), live_tables(model)
    found: dict[str, torch.Tensor] = {layout.input[0]: model.get_input_embeddings().weight}
    if is_factorised(model):
        found[primitives_name(layout.input[0])] = model.get_input_embeddings().primitives
    if layout.head:
        found[layout.head[0]] = head.weight
        if is_factorised(model):
            found[primitives_name(layout.head[0])] = head.primitives
    elif layout.tied and not is_tied(model):
        found |= parted_head(model, checkpoint, head.weight, getattr(head, "bias", None))
    if layout.bias and "bias" in tables:
        found[layout.bias[0]] = tables["bias"].reshape(*checkpoint.tensors[layout.bias[0]].shape[:-1], -1)
    if layout.others:
        held = tensors_of(model)
        found |= {name: held[layout.called[name].name] for name in layout.others}
    return {name: stored_form(tensor, checkpoint, name) for name, tensor in found.items()}


def parted_head(model: Any, checkpoint: Checkpoint, weight: torch.Tensor, bias: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """What to store of a head that the files tie to the input table and that is no more: its weight, and its bias if that was tied too."""
    head = head_of(model)
    name = next(name for name, module in model.named_modules() if module is head)
    stored = {f"{name}.weight": weight}
    if bias is not None and f"{name}.bias" not in checkpoint.tensors:
        stored[f"{name}.bias"] = bias
    return stored


def stored_form(tensor: torch.Tensor, checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """`tensor` as the files keep the tensor `name`, or the input table where they have no such tensor."""
    known = name if name in checkpoint.tensors else checkpoint.layout.input[0]
    return tensor.detach().cpu().to(checkpoint.tensors[known].torch_dtype)
