"""What a module of a model gives, batch by batch: of an encoder (representations), of its projector (embeddings), by the module's name.

Enters: a model, batches, and a name such as "projector". Leaves: rows (N, K) that say which module they came from. RankMe is meant for
embeddings: what the loss sees.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from regraft.errors import ParameterError

Pool = Literal["mean", "first", "none"]


@dataclass(frozen=True)
class Representations:
    """`rows` (N, K) on the CPU, in the module's own type, and the `module` they came out of; "" is the model itself."""

    rows: torch.Tensor
    module: str


def representations(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    module: str = "",
    limit: int | None = None,
    pool: Pool = "mean",
    call: Callable[[nn.Module, Any], Any] | None = None,
) -> Representations:
    """Run `model` over the batches of `loader`, without gradients and in evaluation mode, and keep what `module` gives.

    Parameters
    ----------
    module : dotted name, as `model.named_modules()` has it; a forward hook reads its output. "" takes the model's own output.
    limit : stop after so many rows; all runs that are compared should have the same number.
    pool : what becomes of an output with more than two axes (n, length, K): the mean over all between the first and the last, its first
        entry, or each as a row of its own.
    call : how a batch meets the model; by default tensors are given as they are, dicts by name, of pairs and lists the first alone (the
        rest being labels).

    Raises `ParameterError` for a name that the model does not have, an output that is no tensor, a module that is not reached.
    """
    named = dict(model.named_modules())
    if module not in named:
        some = ", ".join(sorted(name for name in named if name)[:8])
        raise ParameterError(f"no module '{module}' in {type(model).__name__}: it has {some}")
    caught: list[torch.Tensor] = []
    handle = named[module].register_forward_hook(lambda _module, _inputs, output: caught.append(_tensor(output, module)))
    parts: list[torch.Tensor] = []
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in loader:
                caught.clear()
                (call or _call)(model, batch)
                if not caught:
                    raise ParameterError(f"module '{module}' was not reached: {type(model).__name__} does not call it")
                parts += [pooled(found, pool).cpu() for found in caught]
                if limit is not None and sum(map(len, parts)) >= limit:
                    break
    finally:
        handle.remove()
        model.train(training)
    if not parts:
        raise ParameterError("no batches: give a loader that is not empty or used up")
    return Representations(torch.cat(parts)[:limit], module)


def pooled(output: torch.Tensor, pool: Pool) -> torch.Tensor:
    """An output (n, ..., K) as rows (m, K)."""
    if output.ndim < 2:
        raise ParameterError(f"an output of shape {tuple(output.shape)} is not rows: choose another module")
    if output.ndim == 2:
        return output
    flat = output.flatten(1, -2)
    if pool == "none":
        return flat.flatten(0, 1)
    return flat.mean(1) if pool == "mean" else flat[:, 0]


def _tensor(output: Any, module: str) -> torch.Tensor:
    """The tensor of an output: itself, the first of a tuple, the last hidden state of a model of `transformers`."""
    found = getattr(output, "last_hidden_state", output)
    found = found[0] if isinstance(found, (tuple, list)) and found else found
    if not isinstance(found, torch.Tensor):
        raise ParameterError(f"module '{module}' gives {type(output).__name__} and not a tensor: choose another module")
    return found


def _call(model: nn.Module, batch: Any) -> Any:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if isinstance(batch, dict):
        return model(**{name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()})
    first = batch[0] if isinstance(batch, (tuple, list)) else batch
    return model(first.to(device))
