"""What a live model holds over its vocabulary: found, resized in one way for every class, and handed out by role.

Enters: a `transformers` model. Leaves: its tables as tensors that can be written to, or the same model with another number of rows. The
library's own `resize_token_embeddings` ties what the config calls tied, whatever the files hold, and knows input table and head alone; this
follows every tensor that the architecture itself makes larger when `vocab_size` is, and leaves apart what is apart.
"""

from typing import Any

import torch
from torch import nn

from regraft.checkpoint.architecture import resized, set_size, text_config
from regraft.errors import EvaluationError


def head_of(model: Any) -> Any:
    """The module that maps hidden states to logits, or None: some heads are a function of the input table, others have none.

    `get_output_embeddings` of some classes answers with a layer before the head; what has not one row for each token is no head.
    """
    try:
        head = model.get_output_embeddings()
    except (NotImplementedError, AttributeError):
        return None
    weight = getattr(head, "weight", None)
    if weight is None:
        return None
    table = model.get_input_embeddings().weight
    sizes = {int(table.shape[0]), int(getattr(text_config(model.config), "vocab_size", 0) or 0)}
    return head if int(weight.shape[0]) in sizes else None


def is_tied(model: Any) -> bool:
    """Whether the head uses the input table."""
    head = head_of(model)
    return head is None or head.weight is model.get_input_embeddings().weight


def live_tables(model: Any) -> dict[str, torch.Tensor]:
    """What `model` holds over its vocabulary, by role: "input", "head" unless it is the input table, "bias" where there is one.

    Further tensors over the vocabulary come under the names of their parameters, as views whose first dimension is the vocabulary.
    """
    embedding, head = model.get_input_embeddings(), head_of(model)
    tables = {"input": embedding.weight}
    if head is not None and head.weight is not embedding.weight:
        tables["head"] = head.weight
    bias = None if head is None else getattr(head, "bias", None)
    if bias is not None:
        tables["bias"] = bias
    known = {id(table) for table in tables.values()}
    for name, dim in over_vocabulary(model).items():
        tensor = _named(model, name)
        if id(tensor) not in known:
            known.add(id(tensor))
            alone = tensor.numel() == tensor.shape[dim]
            role = "bias" if alone and "bias" in name and "bias" not in tables else name
            tables[role] = tensor.view(-1) if alone else tensor.movedim(dim, 0)
    return tables


def over_vocabulary(model: Any) -> dict[str, int]:
    """Names of all parameters and buffers over the vocabulary -> their dimension there; empty for a class that cannot be built again."""
    rows = rows_of(model)
    known = model.__dict__.get("_over_vocabulary")  # by rows: what follows stays the same
    if known is None or known[0] != rows:
        model.__dict__["_over_vocabulary"] = known = (rows, _following(model, rows + 960))
    return dict(known[1])


def rows_of(model: Any) -> int:
    """Rows of the vocabulary as the config names them, else those of the input table."""
    return int(getattr(text_config(model.config), "vocab_size", 0) or model.get_input_embeddings().weight.shape[0])


def resize(model: Any, rows: int) -> None:
    """Give everything over `model`'s vocabulary `rows` rows, in place; new rows are the mean of the old ones until they are set.

    Rows behind the vocabulary stay behind it. What was one tensor under two names stays one, what was two stays two. Raises
    `EvaluationError` if the architecture cannot be built with that vocabulary.
    """
    old = rows_of(model)
    if rows == old:
        return
    built = _built(model, rows)
    if built is None:
        raise EvaluationError(f"{type(model).__name__} cannot be built with a vocabulary of {rows} tokens")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_of(built).items()}
    fresh: dict[int, torch.Tensor] = {}
    for name, tensor in tensors_of(model).items():
        if name in shapes and shapes[name] != tuple(tensor.shape):
            if id(tensor) not in fresh:
                fresh[id(tensor)] = _grown(tensor, shapes[name], old)
            _put(model, name, fresh[id(tensor)])
    for name, module in model.named_modules():
        try:
            twin = built.get_submodule(name)
        except AttributeError:
            continue
        for key, value in vars(twin).items():
            if type(value) is int and vars(module).get(key) not in (None, value):
                setattr(module, key, value)
        if hasattr(module, "config"):
            set_size(module.config, old, rows)
    set_size(model.config, old, rows)


def _grown(tensor: torch.Tensor, shape: tuple[int, ...], old: int) -> torch.Tensor:
    dim = next(i for i, (a, b) in enumerate(zip(tensor.shape, shape, strict=True)) if a != b)
    before, after = tensor.detach().movedim(dim, 0), torch.empty(shape, dtype=tensor.dtype, device=tensor.device).movedim(dim, 0)
    behind = before.shape[0] - old if before.shape[0] > old else 0
    count = min(old, after.shape[0] - behind)
    after[:] = before[:old].to(torch.float32).mean(0).to(before.dtype)
    after[:count] = before[:count]
    if behind:
        after[-behind:] = before[-behind:]
    whole = after.movedim(0, dim).contiguous()
    return nn.Parameter(whole, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else whole


def _following(model: Any, rows: int) -> dict[str, int]:
    built = _built(model, rows)
    if built is None:
        return {}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_of(built).items()}
    found = {}
    for name, tensor in tensors_of(model).items():
        if name in shapes and shapes[name] != tuple(tensor.shape) and len(shapes[name]) == tensor.ndim:
            moved = [i for i, (a, b) in enumerate(zip(tensor.shape, shapes[name], strict=True)) if a != b]
            if len(moved) == 1:
                found[name] = moved[0]
    return found


def _built(model: Any, rows: int) -> Any:
    try:
        with torch.device("meta"):
            return type(model)(resized(model.config, rows_of(model), rows))
    except Exception:  # a constructor that needs real values
        return None


def tensors_of(model: Any) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name, shared ones under each of theirs."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def _named(model: Any, name: str) -> torch.Tensor:
    path, _, leaf = name.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(path), leaf)
    return tensor


def _put(model: Any, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    (module._parameters if leaf in module._parameters else module._buffers)[leaf] = tensor
