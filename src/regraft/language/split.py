"""Where a model's forward pass can be cut in two, found by trying it: a backbone that reads text, and the rest that makes logits of it.

Enters: a `transformers` model and a few ids. Leaves: the module that answers with the hidden states its logits are made of, checked against
one plain forward pass; or None, where no such module gives the same logits, and the model must be run whole.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regraft.errors import EvaluationError

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}  # of the largest logit, at least 1; other formats round more
COARSE = 2e-2
SHORT_TOKENS = 160  # on a CPU, plain attention beats the fused kernel up to about here: short documents are scored 1.3 times as fast


@dataclass(frozen=True)
class Split:
    """`path` of the backbone in the model, None to run it whole.

    `causal`: no logits change with the tokens behind them. `plain`: plain attention gives the logits of the fused kernel.
    """

    path: str | None
    causal: bool
    plain: bool = True


def split_of(model: Any, ids: list[int] | None = None) -> Split:
    """How `model` is cut; found on first use with `ids`, by default its first ones, and kept with the model.

    Raises `EvaluationError` if a plain forward pass on text fails.
    """
    known = model.__dict__.get("_split")
    if known is None:
        model.__dict__["_split"] = known = _find(model, ids or list(range(6)))
    split: Split = known
    return split


def backbone_of(model: Any) -> Any:
    """The module that reads text, or None where the model must be run whole."""
    path = split_of(model).path
    return None if path is None else model.get_submodule(path)


def run_head(model: Any, backbone: nn.Module, states: torch.Tensor, output_type: type) -> torch.Tensor:
    """Logits (n, vocabulary rows) that `model` makes of hidden states (n, d), whatever it does between them."""
    output = output_type(last_hidden_state=states.unsqueeze(0))
    ids = torch.zeros((1, states.shape[0]), dtype=torch.long, device=states.device)
    with replaced_forward(backbone, lambda *args, **kwargs: output):
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits[0]


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """`module` answers with `forward` inside the context; a function, for a module would become a child of `module`."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


@contextmanager
def inference(model: Any) -> Iterator[None]:
    """No gradients and no dropout inside the context; the training flag is put back after."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


@contextmanager
def short_attention(model: Any, ids: torch.Tensor) -> Iterator[None]:
    """Inside the context a batch `ids` (batch, length) of short sequences on a CPU meets plain attention instead of the fused kernel,
    but where a class computes something else with it."""
    fused, known = model.config._attn_implementation, model.__dict__.get("_split")
    if (known is not None and not known.plain) or ids.device.type != "cpu" or ids.shape[1] > SHORT_TOKENS or fused != "sdpa":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(fused)


def _find(model: Any, chosen: list[int]) -> Split:
    device = next(model.parameters()).device
    ids = torch.tensor([chosen], device=device)
    table = model.get_input_embeddings()
    names = [
        name for name, module in model.named_modules() if name and any(part is table for part in module.modules()) and module is not table
    ]
    called: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda _, __, output: called.append(name) if hasattr(output, "last_hidden_state") else None

    with inference(model):
        hooks = [model.get_submodule(name).register_forward_hook(note(name)) for name in names]
        try:
            plain = _logits(model, ids)
        except Exception as error:  # a class that needs more than text
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise EvaluationError(
                f"{type(model).__name__} does not run on text alone, so text has no likelihood under it: {reason}"
            ) from None
        finally:
            for hook in hooks:
                hook.remove()
        other = ids.clone()
        other[0, -1] = chosen[0]
        causal = len(chosen) < 2 or _same(_logits(model, other)[:-1], plain[:-1], 0.1)
        path = next((name for name in names if name in called and _cuts(model, model.get_submodule(name), ids, plain)), None)
        try:
            with short_attention(model, ids):
                alike = _same(_logits(model, ids), plain)
        except Exception:  # a class that has no plain attention
            alike = False
    return Split(path, causal, alike)


def _cuts(model: Any, module: nn.Module, ids: torch.Tensor, plain: torch.Tensor) -> bool:
    """Whether the logits of some positions, out of order, are those of the plain pass if `module` is the backbone."""
    positions = list(range(ids.shape[1]))[::-2]
    try:
        options = {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}
        output = module(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        return _same(run_head(model, module, output.last_hidden_state[0, positions], type(output)), plain[positions])
    except Exception:  # a module that cannot be called in this way is no place to cut
        return False


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    return logits


def _same(first: torch.Tensor, second: torch.Tensor, share: float = 1.0) -> bool:
    if first.shape != second.shape:
        return False
    finite = second[torch.isfinite(second)]
    largest = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    return torch.allclose(first, second, rtol=0, atol=share * TOLERANCE.get(second.dtype, COARSE) * largest, equal_nan=True)
