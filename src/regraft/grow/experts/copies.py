"""A feed-forward block grown to N copies of itself with a router: sparse upcycling where `transformers` has no mixture of the kind.

Enters: a block and how tokens choose. Leaves: the block with N - 1 more experts and a router as parameters of its own. The block itself is
expert 0, so that the checkpoint opens in plain `transformers` too, as that expert's dense model.
"""

from typing import Any

import torch
from torch import Tensor, nn

from regraft.grow.experts.block import Mode, RoutedBlock
from regraft.grow.experts.ffn import FeedForward, rows
from regraft.grow.experts.grouped import Stack
from regraft.grow.experts.routing import CosineRouter, SoftmaxRouter
from regraft.grow.experts.split import Routing

COPIES = "expert_copies"
PARTS = ("key", "up", "value")


class Copies(nn.Module):
    """Experts 1 to N - 1, stacked, and the router: (N - 1, out, in) weights and (N - 1, out) biases."""

    def __init__(self, ffn: FeedForward, routing: Routing) -> None:
        super().__init__()
        device = rows(ffn.key).device
        for name, part in ((name, getattr(ffn, name)) for name in PARTS):
            if part is not None:
                self.register_parameter(name, nn.Parameter(_repeated(rows(part), routing.experts - 1)))
                if part.bias is not None:
                    self.register_parameter(f"{name}_bias", nn.Parameter(_repeated(part.bias, routing.experts - 1)))
        router: Any = CosineRouter if routing.gate == "learned" else SoftmaxRouter
        self.router = router(ffn.dim, routing.experts).to(device)


def _repeated(value: Tensor, times: int) -> Tensor:
    return value.detach().expand(times, *value.shape).clone()


class CopiedBlock(RoutedBlock):
    """A block with copies. Weights of the chosen experts are their softmax: they sum to 1, so that equal copies are the dense block."""

    def __init__(self, ffn: FeedForward, routing: Routing) -> None:
        super().__init__(ffn, routing)
        if self.copies is None:
            self._home.add_module(COPIES, Copies(ffn, routing))

    def _make_router(self) -> None:
        pass  # it lies with the copies

    @property
    def copies(self) -> Any:
        return getattr(self._home, COPIES, None)

    @property
    def router(self) -> Any:
        return None if self.copies is None else self.copies.router

    def attach(self, mode: Mode) -> None:
        super().attach("dense" if mode == "dense" else "grouped")

    def take_out(self) -> None:
        if self.copies is not None:
            delattr(self._home, COPIES)

    def stack(self) -> Stack:
        def joined(name: str) -> tuple[Any, Any]:
            part, bias = getattr(self.ffn, name), getattr(self.copies, f"{name}_bias", None)
            if part is None:
                return None, None
            return torch.cat([rows(part)[None], getattr(self.copies, name)]), None if bias is None else torch.cat([part.bias[None], bias])

        (keys, key_bias), (up, up_bias), (values, value_bias) = map(joined, PARTS)
        return Stack(keys, values, up, key_bias, up_bias, value_bias)

    def _shared_bias(self) -> Tensor | None:
        return None  # each expert has its own

    def _weights(self, picked_scores: Tensor) -> Tensor | None:
        return picked_scores.softmax(-1)
