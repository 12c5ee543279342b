"""Adaptive low-precision training: whole numbers whose step size each row learns."""

import math
import warnings
from typing import Annotated, Any, cast

import torch
from annotated_types import Gt
from torch.nn.functional import embedding

from regraft.method import Paper
from regraft.tables.codes.row_steps import Optimizer, RowSteps, rounded, summed
from regraft.tables.embedding import Mode
from regraft.tables.embeddings.int_rows import IntRows

LEAST = 1e-8  # step size


class NoSecondPass(UserWarning):
    """A trainer that does not ask `again()`: step sizes stay as they were."""


class AlptEmbedding(IntRows):
    r"""ALPT: :math:`e_i = \Delta_i c_i` with whole numbers of 8 bits and a step :math:`\Delta_i` that learns (section 3, algorithm 1).

    Each step of a training (1) moves the rows of the batch, as float32, by their gradients to w'; (2) passes the batch once more with
    :math:`\Delta\,\mathrm{clip}(\mathrm{round}(w'/\Delta))`, of which only :math:`\Delta` learns: by
    :math:`\mathrm{round}(x) - x` for :math:`x = w'/\Delta` within the range and the range's end outside, added up over the row and
    scaled by :math:`g = 1/\sqrt{m\,d\,127}` for m ids in a batch; (3) rounds :math:`w'/\Delta` stochastically.

    step : of every row at the start. rate, optimizer : of the rows, as `int8`; step_rate : of their steps, by the same optimizer.
    second : whether there is a second pass (the trainer asks `again()`); otherwise the gradient of the first serves, which is ours.
    seed : of the rounding. mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`n d/4 + n` words, in training too.
    """

    name = "alpt"
    paper = Paper("Adaptive Low-Precision Training for Embeddings in Click-Through Rate Prediction", "Li et al.", 2023, arxiv="2212.05735")
    summary = "whole numbers of 8 bits whose step sizes learn"
    learns_from = False
    bits = 8
    stored = torch.int8

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        step: Annotated[float, Gt(0)] = 0.01,
        rate: Annotated[float, Gt(0)] | None = None,
        step_rate: Annotated[float, Gt(0)] = 2e-5,
        optimizer: Optimizer = "adam",
        second: bool = True,
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, scales="row", step=step, optimizer=optimizer, rate=rate, seed=seed, mode=mode,
                         padding_idx=padding_idx)  # fmt: skip
        self.step_rate, self.second = step_rate, second
        self.step_moments = RowSteps(optimizer, step_rate, num_embeddings, 1)
        self._moving: tuple[torch.Tensor, torch.Tensor] | None = None  # ids in order, and w'
        self._asked = False

    @classmethod
    def words(cls, rows: int, dim: int, **_: Any) -> float:
        return rows * dim * cls.bits / 32 + rows

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        if not self._asked or not self.training or not torch.is_grad_enabled():
            return super().rows(ids)
        own, back = torch.unique(ids, return_inverse=True)
        scale = 1 / math.sqrt(max(1, ids.numel()) * self.embedding_dim * self.most())
        steps = self._noted(own, self.steps[own])
        found = LearnedStep.apply(self._floats(own), steps, self.most(), scale)  # type: ignore[no-untyped-call]
        return embedding(back, found)

    def _floats(self, ids: torch.Tensor) -> torch.Tensor:
        """w' of `ids`; rows that have not moved as they are."""
        moving, floats = cast(tuple[torch.Tensor, torch.Tensor], self._moving)
        places = torch.searchsorted(moving, ids).clamp(max=len(moving) - 1)
        return torch.where((moving[places] == ids).unsqueeze(1), floats[places], self._read(ids))

    def again(self) -> bool:
        self._asked = self.second and self._moving is not None
        return self._asked

    @torch.no_grad()
    def after_step(self) -> None:
        """After the first pass: rows move. After the second: their steps do. Either way rows are rounded."""
        if self._asked:
            self._step_sizes()
            return
        if not self._met:
            return
        if self._moving is not None and self.second:
            warnings.warn("alpt: step sizes learn in a second pass, and there was none: ask again() after each step, or set second=False",
                          NoSecondPass, stacklevel=2)  # fmt: skip
        (ids, gradients), self._met = summed(self._met), []
        floats = self.moments.moved(ids, self._read(ids), gradients)
        if not self.second:
            self._move_steps(
                ids, gradient_of_step(floats, self.steps[ids], gradients, self.most()) / math.sqrt(floats.numel() * self.most())
            )
        self._moving = (ids, floats)
        self._store(ids, floats)

    def _step_sizes(self) -> None:
        if self._met:
            (ids, gradients), self._met = summed(self._met), []
            self._move_steps(ids, gradients)
        ids, floats = cast(tuple[torch.Tensor, torch.Tensor], self._moving)
        self._store(ids, floats)
        self._moving, self._asked = None, False

    def _move_steps(self, ids: torch.Tensor, gradients: torch.Tensor) -> None:
        self.steps[ids] = self.step_moments.moved(ids, self.steps[ids], gradients).clamp(min=LEAST)

    def _store(self, ids: torch.Tensor, rows: torch.Tensor) -> None:
        self.codes[ids] = rounded(rows / self.steps[ids], self.most(), self._generator()).to(self.stored)


class LearnedStep(torch.autograd.Function):
    """Rows (m, d) rounded to the nearest of their steps (m, 1); only steps get a gradient."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, steps: torch.Tensor, most: int, scale: float) -> torch.Tensor:
        ctx.save_for_backward(rows, steps)
        ctx.most, ctx.scale = most, scale
        return rounded(rows / steps, most, None) * steps

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[None, torch.Tensor, None, None]:
        rows, steps = ctx.saved_tensors
        return None, gradient_of_step(rows, steps, upstream, ctx.most) * ctx.scale, None, None


def gradient_of_step(rows: torch.Tensor, steps: torch.Tensor, upstream: torch.Tensor, most: int) -> torch.Tensor:
    """Of steps (m, 1), before it is scaled."""
    x = rows / steps
    slope = torch.where(x.abs() < most, (x + 0.5).floor() - x, most * x.sign())
    return (slope * upstream).sum(1, keepdim=True)
