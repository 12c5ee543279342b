"""What training minimizes: next token, next token and the one after, or masked tokens; in memory that does not grow with the vocabulary.

Enters: a batch of packed blocks. Leaves: gradients on the trainable parameters, and the nats that the next (or masked) tokens cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from regraft.language.model import LanguageModel, replaced_forward

Objective = Literal["clm", "mtp", "mlm"]
MASKED_SHARE = 0.15  # BERT: of these 80 % become the mask token, 10 % a random token, 10 % stay


@dataclass(frozen=True)
class Loss:
    """`nats` summed over the `tokens` that the model's own head predicted; the second head of "mtp" is not in it."""

    nats: float
    tokens: int


class SecondHead(nn.Module):
    """The head that predicts the token after next: starts as a copy of the LM head, trains in full, and is dropped at export."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states (..., d)."""
        return nn.functional.linear(states, self.weight, self.bias)


def backpropagate(language_model: LanguageModel, ids: torch.Tensor, *, second: SecondHead | None = None, scale: float = 1.0) -> Loss:
    """Add the gradient of ``scale * mean loss`` of next-token prediction on `ids` (batch, block); with `second`, of

        mean CE(logits_i, ids_{i+1}) + mean CE(second_i, ids_{i+2}).

    The head's part is differentiated block by block down to the hidden states, then the backbone once, so that logits of the whole batch
    never exist together.
    """
    states = language_model.hidden(ids)
    heads: list[tuple[SecondHead | None, int]] = [(None, 1)] if second is None else [(None, 1), (second, 2)]
    border = states.detach().requires_grad_(states.requires_grad)
    losses = []
    for head, shift in heads:
        seen = border[:, :-shift].reshape(-1, border.shape[-1])
        losses.append(_head_loss(language_model, seen, ids[:, shift:].reshape(-1), head, scale))
    _into_backbone(states, border)
    return losses[0]


def backpropagate_masked(language_model: LanguageModel, ids: torch.Tensor, rng: np.random.Generator, *, scale: float = 1.0) -> Loss:
    """Add the gradient of ``scale * mean CE`` of the tokens of `ids` (batch, block) that `mask_tokens` hides."""
    hidden_ids, positions = mask_tokens(ids.cpu().numpy(), language_model, rng)
    states = language_model.hidden(torch.from_numpy(hidden_ids).to(ids.device))
    border = states.detach().requires_grad_(states.requires_grad)
    chosen = torch.from_numpy(positions).to(ids.device)
    loss = _head_loss(language_model, border[chosen], ids[chosen], None, scale)
    _into_backbone(states, border)
    return loss


def mask_tokens(
    ids: npt.NDArray[np.int64], language_model: LanguageModel, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Ids with masks, and the positions (same shape) to predict: 15 % of the tokens that are not special, at least one."""
    tokenizer = language_model.tokenizer
    ordinary = ~np.isin(ids, tokenizer.all_special_ids)
    draw = np.where(ordinary, rng.random(ids.shape), 2.0)
    positions = draw < max(MASKED_SHARE, float(draw.min()) + 1e-12)
    positions &= ordinary
    fate = rng.random(ids.shape)
    masked = np.where(positions & (fate < 0.8), tokenizer.mask_token_id, ids)
    masked = np.where(positions & (fate >= 0.9), rng.choice(language_model.vocabulary, ids.shape), masked)
    return masked, positions


def _head_loss(language_model: LanguageModel, seen: torch.Tensor, targets: torch.Tensor, head: SecondHead | None, scale: float) -> Loss:
    nats, count = 0.0, len(targets)
    # `seen` is a view or copy of the border: gather its gradient once, then send it through in one piece
    leaf = seen.detach().requires_grad_(seen.requires_grad)
    for rows in _blocks(count, language_model.block()):
        loss = cross_entropy(_logits(language_model, leaf[rows], head).float(), targets[rows], reduction="sum")
        if loss.requires_grad:
            torch.autograd.backward(loss * (scale / count))
        nats += loss.item()
    if seen.requires_grad:
        torch.autograd.backward(seen, leaf.grad)
    return Loss(nats, count)


def _logits(language_model: LanguageModel, states: torch.Tensor, head: SecondHead | None) -> torch.Tensor:
    if head is None:
        return language_model.logits(states)
    with replaced_forward(language_model.head, head.forward):
        return language_model.logits(states)


def _into_backbone(states: torch.Tensor, border: torch.Tensor) -> None:
    if states.requires_grad:
        torch.autograd.backward(states, border.grad)


def _blocks(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
