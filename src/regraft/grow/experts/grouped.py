"""A feed-forward pass in which each token meets only the experts that it chose, as a few grouped matrix products.

Enters: tokens (T, d), stacked experts, the choice (T, k). Leaves: (T, d). Tokens are sorted by expert, so that one product a matrix serves
all experts; nothing loops over tokens or experts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm

TAKEN = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Stack:
    """N experts of e neurons each: `keys` and `up` (N, e, d), `values` (N, d, e), biases (N, e) and (N, d). Views are fine."""

    keys: Tensor
    values: Tensor
    up: Tensor | None = None
    key_bias: Tensor | None = None
    up_bias: Tensor | None = None
    value_bias: Tensor | None = None

    @property
    def experts(self) -> int:
        return self.keys.shape[0]


def experts_forward(
    x: Tensor,
    stack: Stack,
    picked: Tensor,
    weights: Tensor | None,
    act: Callable[[Tensor], Tensor],
    within: Callable[[Tensor], Tensor] = lambda hidden: hidden,
) -> Tensor:
    """Sum over the chosen experts of weight * act(x K + b) (* (x U + b)) V + c.

    Parameters
    ----------
    picked : (T, k) indices, each at most once a token. weights : (T, k), or None for 1 each. within : applied to hidden activations.
    """
    tokens, k = picked.shape
    if not _groupable(x, stack):
        return _all_experts(x, stack, picked, weights, act, within)
    flat = picked.reshape(-1)
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=stack.experts)
    ends, owner = counts.cumsum(0).to(torch.int32), flat[order]
    entering = x[order // k]
    hidden = _within(act, entering, stack, ends, owner)
    leaving = _product(within(hidden), stack.values, stack.value_bias, ends, owner)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    each = leaving[back].view(tokens, k, -1)
    return each.sum(1) if weights is None else (each * weights.to(each.dtype)[..., None]).sum(1)


def _within(act: Callable[[Tensor], Tensor], x: Tensor, stack: Stack, ends: Tensor, owner: Tensor) -> Tensor:
    hidden = act(_product(x, stack.keys, stack.key_bias, ends, owner))
    return hidden if stack.up is None else hidden * _product(x, stack.up, stack.up_bias, ends, owner)


def _product(x: Tensor, matrices: Tensor, bias: Tensor | None, ends: Tensor, owner: Tensor) -> Tensor:
    found = grouped_mm(x, matrices.transpose(1, 2), offs=ends)
    return found if bias is None else found + bias[owner]


def _groupable(x: Tensor, stack: Stack) -> bool:
    """Whether PyTorch's grouped product takes these types and strides (of 16 bytes)."""
    matrices = [one for one in (stack.keys, stack.values, stack.up) if one is not None]
    aligned = all(s == 1 or s * one.element_size() % 16 == 0 for one in [x, *matrices] for s in one.stride())
    return aligned and x.dtype in TAKEN and all(one.dtype == x.dtype for one in matrices)


def _all_experts(
    x: Tensor, stack: Stack, picked: Tensor, weights: Tensor | None, act: Callable[[Tensor], Tensor], within: Callable[[Tensor], Tensor]
) -> Tensor:
    """The same with every expert for every token, and weights of 0: for types and widths that the grouped product does not take."""

    def product(matrices: Tensor, bias: Tensor | None) -> Tensor:
        found = torch.einsum("td,ned->tne", x, matrices)
        return found if bias is None else found + bias

    hidden = act(product(stack.keys, stack.key_bias))
    if stack.up is not None:
        hidden = hidden * product(stack.up, stack.up_bias)
    share = x.new_zeros(len(x), stack.experts).scatter(1, picked, 1.0 if weights is None else weights.to(x.dtype))
    found = torch.einsum("tne,nde->td", within(hidden) * share[..., None], stack.values)
    return found if stack.value_bias is None else found + share @ stack.value_bias
