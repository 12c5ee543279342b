"""A decoder that reads in both directions: the switch, and the test that it really does.

An attribute on the attention modules is no switch: under sdpa it is lost for a whole batch once one text is padded, under eager attention
it does nothing. Two ways hold: `config.is_causal = False` where the family's mask code asks for it, else an additive float mask over keys
that the caller passes instead of the 2-D one. Whichever is taken, `fault` tries it on the live model.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch

from regraft.errors import CheckpointError

Attention = Literal["causal", "native", "config", "mask"]
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SHORT, LONG = 6, 9  # tokens of the two texts of the test
MOVED = 1e-6  # relative change of a state that a later token must cause; a causal model's states do not change at all


def additive_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where a key is a token, the lowest number of `dtype` where it is padding; no order in time."""
    blocked = (1 - mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min
    return blocked.expand(-1, 1, mask.shape[1], -1)


def switch(model: Any) -> Attention:
    """Make `model`, a transformer without heads, read in both directions; returns by which way it does.

    "native" : it did already. "config" : `config.is_causal = False`, which is saved with the model. "mask" : only under `additive_mask`.
    Raises `CheckpointError` where neither holds (recurrent models; families that build their own triangle).
    """
    faults = {"native": fault(model, "native")}
    if faults["native"] is None:
        return "native"
    config = model.config.get_text_config()
    before = getattr(config, "is_causal", None)
    config.is_causal = False
    faults["config"] = fault(model, "config")
    if faults["config"] is None:
        return "config"
    if before is None:
        del config.is_causal
    else:
        config.is_causal = before
    faults["mask"] = fault(model, "mask")
    if faults["mask"] is None:
        return "mask"
    told = f"by its config, {faults['config']}; by an additive mask, {faults['mask']}"
    raise CheckpointError(f"{model.config.model_type}: it can't be made to read in both directions ({told}): take bidirectional=false")


def check(model: Any, way: Attention) -> None:
    """Raise `CheckpointError` if a model that should read in both directions `way` does not, on this machine, as it is now."""
    found = None if way == "causal" else fault(model, way)
    if found is not None:
        raise CheckpointError(f"{model.config.model_type}: it should read in both directions ({way}), but {found}")


@torch.no_grad()
def fault(model: Any, way: Attention) -> str | None:
    """What is wrong with `way` on `model`, under the attention code that it runs now; None if nothing is.

    A later token must move the states before it, in a batch of one and in both rows of a padded batch; padding must move nothing: neither
    how much of it there is nor which token stands there.
    """
    training = model.training
    model.eval()
    try:
        return _fault(_forward(model, way), model)
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        return f"it fails ({' '.join(str(error).split())[:80]})"
    finally:
        model.train(training)


def _forward(model: Any, way: Attention) -> Forward:
    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        given = additive_mask(mask, model.dtype) if way == "mask" else mask
        states: torch.Tensor = model(input_ids=ids, attention_mask=given).last_hidden_state
        return states

    return forward


def _fault(forward: Forward, model: Any) -> str | None:
    ids = torch.arange(LONG, device=model.device) * 7 % max(2, model.get_input_embeddings().weight.shape[0] - 1) + 1
    long, short = ids[None], ids[None, :SHORT].flip(1)
    ones = torch.ones_like(long)
    mask = torch.cat([ones, ones])
    mask[1, SHORT:] = 0
    padded = torch.cat([short, ones[:, SHORT:]], dim=1)  # any token stands in the padding
    window = getattr(model.config.get_text_config(), "sliding_window", None) or LONG
    seen = [SHORT - 2] if window < LONG else [0, SHORT - 2]

    def other_last(row: torch.Tensor, at: int) -> torch.Tensor:
        changed = row.clone()
        changed[0, at] = 1 + (row[0, at] + 2) % max(1, int(ids.max()) - 1)
        return changed

    alone = forward(short, ones[:, :SHORT])[0]
    if not _moves(forward(other_last(short, SHORT - 1), ones[:, :SHORT])[0], alone, seen):
        return "in a batch of one a later token moves no earlier state"
    batch = forward(torch.cat([long, padded]), mask)
    if not _moves(forward(torch.cat([long, other_last(padded, SHORT - 1)]), mask)[1], batch[1], seen):
        return "in a padded text a later token moves no earlier state"
    last = [LONG - 2] if window < LONG else [0, LONG - 2]
    if not _moves(forward(torch.cat([other_last(long, LONG - 1), padded]), mask)[0], batch[0], last):
        return "beside a padded text a later token moves no earlier state"
    refilled = torch.cat([short, ones[:, SHORT:] + 1], dim=1)
    if bool((_change(forward(torch.cat([long, refilled]), mask)[1, :SHORT], batch[1, :SHORT]) > MOVED).any()):
        return "a token of the padding moves the text's states"
    allowed = 1e-3 if model.dtype == torch.float32 else 0.1  # rounding of other shapes
    if bool((_change(batch[1, :SHORT], alone) > allowed).any()):
        return "padding moves the text's states"
    return None


def _change(states: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Relative change of each state, (T,)."""
    found: torch.Tensor = (states.float() - before.float()).norm(dim=-1) / before.float().norm(dim=-1).clamp(min=1e-12)
    return found


def _moves(states: torch.Tensor, before: torch.Tensor, places: list[int]) -> bool:
    return bool((_change(states, before)[places] > MOVED).all())
