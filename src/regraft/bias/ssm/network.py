"""Blocks of S4D, and a network of them for sequences: a class each, or a value at each step."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, glu

from regraft.bias.ssm.discrete import discretise
from regraft.bias.ssm.layer import S4D, S4DConfig
from regraft.errors import ParameterError


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """What stands around a layer. mix : "glu" (gated), or "linear" without an activation, as in the paper's ablations."""

    dropout: float = 0.0
    mix: Literal["glu", "linear"] = "glu"
    norm: Literal["layer", "batch"] = "layer"
    prenorm: bool = True


class S4DBlock(nn.Module):
    """S4D, GELU, dropout that is the same at every step, a layer over channels, and what came in added to it."""

    def __init__(self, config: S4DConfig, around: BlockConfig | None = None) -> None:
        super().__init__()
        self.around = around or BlockConfig()
        h = config.d_model
        self.layer = S4D(config)
        self.dropout = nn.Dropout1d(self.around.dropout)
        self.mix = nn.Linear(h, 2 * h if self.around.mix == "glu" else h)
        self.norm = nn.LayerNorm(h) if self.around.norm == "layer" else nn.BatchNorm1d(h)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *, rate: float = 1.0) -> Tensor:
        """(n, length, H) -> (n, length, H)."""
        inner = self._normed(hidden_states) if self.around.prenorm else hidden_states
        return self._behind(hidden_states, self.layer(inner, attention_mask, rate=rate))

    def prefill(self, hidden_states: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `forward`, from `state`; and the state behind it."""
        inner = self._normed(hidden_states) if self.around.prenorm else hidden_states
        y, state = self.layer.prefill(inner, state)
        return self._behind(hidden_states, y), state

    def step(self, hidden_state: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step (n, H)."""
        whole = hidden_state.unsqueeze(1)
        inner = self._normed(whole) if self.around.prenorm else whole
        y, state = self.layer.step(inner[:, 0], state)
        return self._behind(whole, y.unsqueeze(1))[:, 0], state

    def _behind(self, hidden_states: Tensor, y: Tensor) -> Tensor:
        mixed = self.mix(self.dropout(gelu(y).mT).mT)
        found = hidden_states + (glu(mixed, -1) if self.around.mix == "glu" else mixed)
        return found if self.around.prenorm else self._normed(found)

    def _normed(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(x) if self.around.norm == "layer" else self.norm(x.mT).mT
        return found


class S4DModel(nn.Module):
    """A linear layer, blocks, and a linear layer behind the mean over steps (`pool`) or at each step.

    Parameters
    ----------
    inputs, outputs : numbers a step, and at the end. config : of the layers; `d_model` is the width. layers : blocks.
    """

    def __init__(
        self, inputs: int, outputs: int, config: S4DConfig, *, layers: int = 4, pool: bool = True, around: BlockConfig | None = None
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ParameterError(f"layers {layers}: give at least 1")
        self.first = nn.Linear(inputs, config.d_model)
        self.blocks = nn.ModuleList(S4DBlock(config, around) for _ in range(layers))
        self.last = nn.Linear(config.d_model, outputs)
        self.pool = pool

    def forward(self, x: Tensor, attention_mask: Tensor | None = None, *, rate: float = 1.0) -> Tensor:
        """(n, length, inputs) -> (n, outputs) or (n, length, outputs). Padding takes no part in the mean."""
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden, attention_mask, rate=rate)
        if self.pool:
            if attention_mask is None:
                hidden = hidden.mean(1)
            else:
                weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
                hidden = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        found: Tensor = self.last(hidden)
        return found

    def prefill(self, x: Tensor, states: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Outputs at each step (n, length, outputs), and a state a block."""
        hidden, behind = self.first(x), []
        for number, block in enumerate(self.blocks):
            assert isinstance(block, S4DBlock)
            hidden, state = block.prefill(hidden, None if states is None else states[number])
            behind.append(state)
        return self.last(hidden), behind

    def step(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One step (n, inputs) from a state a block: outputs (n, outputs), and states."""
        hidden, behind = self.first(x), []
        for block, state in zip(self.blocks, states, strict=True):
            assert isinstance(block, S4DBlock)
            hidden, state = block.step(hidden, state)
            behind.append(state)
        return self.last(hidden), behind


@torch.no_grad()
def states_of(a: Tensor, b: Tensor, dt: float, u: Tensor) -> Tensor:
    """What one state space with zero-order hold holds at each step of u (length,): (length, n), complex128. To study initial values."""
    z, factor = discretise(a[None].to(torch.complex128), torch.tensor([[dt]], dtype=torch.float64), "zoh")
    powers = (torch.arange(len(u), dtype=torch.float64)[:, None] * z).exp() * factor * b
    points = 2 * len(u)
    both = torch.fft.fft(powers, points, 0) * torch.fft.fft(u.to(torch.complex128), points)[:, None]
    found: Tensor = torch.fft.ifft(both, dim=0)[: len(u)]
    return found
