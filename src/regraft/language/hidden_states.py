"""Hidden states of a frozen model over sequences of ids: batched by length, layer by layer, in bounded memory.

Enters: a `transformers` model and lists of ids, with whatever special ids they should hold. Leaves: one tensor a sequence, on the CPU.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.language.model import inference

BATCH_TOKENS = 4096  # ids of a batch, padding included


def backbone(model: Any) -> nn.Module:
    """What turns ids into hidden states: the encoder of an encoder-decoder, the model without its head of all others."""
    found: nn.Module = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    return found


def hidden_states(
    model: Any, sequences: Sequence[Sequence[int]], *, layers: Sequence[int] = (-1,), batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[int, torch.Tensor]]:
    """For each sequence its number and states (layers, length, K) in float32, longest first; what has no ids is left out.

    Parameters
    ----------
    layers : as in ``hidden_states`` of `transformers`: 0 is the input, -1 the last. batch_tokens : ids that are read at once, padding
        included; a longer sequence goes alone.

    Padding stands on the right and is masked, so a sequence's states do not depend on its batch (but for rounding). Raises
    `ParameterError` for a layer that the model does not have.
    """
    body = backbone(model)
    device = next(model.parameters()).device
    order = sorted((n for n, ids in enumerate(sequences) if len(ids)), key=lambda n: (-len(sequences[n]), n))
    start = 0
    with inference(model):
        while start < len(order):
            longest = len(sequences[order[start]])
            batch = order[start : start + max(1, batch_tokens // longest)]
            ids, mask = _padded([sequences[n] for n in batch], longest)
            output = body(input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True)
            states = torch.stack([layer_of(output.hidden_states, layer) for layer in layers], 1).float().cpu()
            yield from ((n, states[row, :, : len(sequences[n])].clone()) for row, n in enumerate(batch))
            start += len(batch)


def layer_of(states: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
    """Hidden states of one layer. Raises `ParameterError` for one that is not there."""
    if not -len(states) <= layer < len(states):
        raise ParameterError(f"--layer {layer}: the model has hidden states 0 to {len(states) - 1}")
    return states[layer]


def _padded(sequences: list[Sequence[int]], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (n, length); what a mask covers is never looked at, so any id will do."""
    ids = torch.zeros(len(sequences), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(list(sequence), dtype=torch.long)
        mask[row, : len(sequence)] = 1
    return ids, mask
