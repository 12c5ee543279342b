"""Steps of an optimizer on the rows that a batch has met, for tables whose rows are no parameters: whole numbers in training too.

Enters: ids, what their rows are worth, their gradients. Leaves: where the rows should be. Moments are there from the first step on.
"""

from typing import Any, Literal

import torch
from torch import nn

Optimizer = Literal["adam", "adagrad", "sgd"]
DECAYS, TINY = (0.9, 0.999), 1e-8  # Adam's


class RowSteps(nn.Module):
    """Adam on the rows met alone (lazy: moments of other rows wait), Adagrad with one sum a row, or plain SGD, for rows (n, width).

    Attributes
    ----------
    count : of steps, int64 (1,).
    """

    count: torch.Tensor

    def __init__(self, kind: Optimizer, rate: float, rows: int, width: int) -> None:
        super().__init__()
        self.kind, self.rate, self.shape = kind, rate, (rows, width)

    @property
    def begun(self) -> bool:
        return "count" in self._buffers

    def _begin(self, device: torch.device) -> None:
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64, device=device))
        for name in {"adam": ("first", "second"), "adagrad": ("total",), "sgd": ()}[self.kind]:
            shape = self.shape if self.kind == "adam" else (self.shape[0], 1)
            self.register_buffer(name, torch.zeros(shape, device=device))

    @torch.no_grad()
    def moved(self, ids: torch.Tensor, rows: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """`rows` (m, width) of different `ids` (m,) after a step by `gradients`."""
        if not self.begun:
            self._begin(rows.device)
        self.count += 1
        if self.kind == "sgd":
            return torch.sub(rows, gradients, alpha=self.rate)
        held: Any = self._buffers
        if self.kind == "adagrad":
            held["total"][ids] += gradients.square().mean(1, keepdim=True)
            return torch.sub(rows, gradients / (held["total"][ids].sqrt() + TINY), alpha=self.rate)
        for name, decay, new in (("first", DECAYS[0], gradients), ("second", DECAYS[1], gradients.square())):
            held[name][ids] = decay * held[name][ids] + (1 - decay) * new
        steps = int(self.count)
        first, second = (held[name][ids] / (1 - decay**steps) for name, decay in zip(("first", "second"), DECAYS, strict=True))
        return torch.sub(rows, first / (second.sqrt() + TINY), alpha=self.rate)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if prefix + "count" in state_dict and not self.begun:
            self._begin(state_dict[prefix + "count"].device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def summed(met: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Different ids in order (m,), and gradients (m, width) added up, of what several look-ups met."""
    if len(met) == 1:
        return met[0]
    ids, back = torch.unique(torch.cat([ids for ids, _ in met]), return_inverse=True)
    gradients = torch.cat([gradient for _, gradient in met])
    return ids, gradients.new_zeros(len(ids), gradients.shape[1]).index_add(0, back, gradients)


def rounded(values: torch.Tensor, most: int, generator: torch.Generator | None) -> torch.Tensor:
    """Whole numbers from -most to most next to `values`: the nearest, or with a generator one of the two beside it, right on average."""
    shift = 0.5 if generator is None else torch.rand(values.shape, generator=generator).to(values.device)
    return (values + shift).floor().clamp(-most, most)
