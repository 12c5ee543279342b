"""Whole numbers of 8 or 16 bits, with a scale for the table or for each row; they are whole numbers in training too."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from annotated_types import Gt
from torch.nn.functional import embedding

from regraft.method import Paper
from regraft.tables.codes.row_steps import Optimizer, RowSteps, rounded, summed
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.memory import Memory, parse_budget

LOW_PRECISION = Paper("Training with Low-Precision Embedding Tables", "Zhang et al.", 2018, url="https://learningsys.org/nips18/assets/papers/47CameraReadySubmissionjian-zhang.pdf")  # fmt: skip  # noqa: E501
BLOCK = 1 << 16  # rows at a time
RATE = 1e-3
RANGE = 1.27  # what the codes of a table reach to: the bench's step of 0.01 for 8 bits


class IntRows(CompressedEmbedding):
    """What all widths share. `bits` : of a number. `stored` : its type.

    In training the rows of a batch are read as float32, and `after_step` moves those by their gradients and rounds them again: no
    optimizer of the model sees them, and no table of float32 is ever there.
    """

    bits: ClassVar[int]
    stored: ClassVar[torch.dtype]
    learns_from = True
    after_training = True
    codes: torch.Tensor
    steps: torch.Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        scales: Literal["table", "row"] = "table",
        rounding: Literal["nearest", "stochastic"] = "stochastic",
        step: Annotated[float, Gt(0)] | None = None,
        optimizer: Optimizer = "adam",
        rate: Annotated[float, Gt(0)] | None = None,
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.scales, self.rounding, self.seed, self.step, self.optimizer, self.rate = scales, rounding, seed, step, optimizer, rate
        self._hold(step or RANGE / self.most())
        self.moments = RowSteps(optimizer, rate or RATE, num_embeddings, embedding_dim)
        self._met: list[tuple[torch.Tensor, torch.Tensor]] = []

    def _hold(self, step: float) -> None:
        """Codes of the start of a plain table, U(-b, b) with b = sqrt(1 / n), drawn block by block."""
        rows, dim = self.num_embeddings, self.embedding_dim
        bound = math.sqrt(1 / rows)
        self.register_buffer("codes", torch.empty(rows, dim, dtype=self.stored))
        for block in torch.split(self.codes, BLOCK):
            drawn = torch.empty(block.shape).uniform_(-bound, bound) / step
            block.copy_((drawn + torch.rand(block.shape)).floor().clamp(-self.most(), self.most()))
        self.register_buffer("steps", torch.full((rows if self.scales == "row" else 1, 1), step))

    @classmethod
    def most(cls) -> int:
        """The largest code; the smallest is its negative."""
        return int((1 << (cls.bits - 1)) - 1)

    @classmethod
    def words(cls, rows: int, dim: int, *, scales: str = "table", **_: Any) -> float:
        return rows * dim * cls.bits / 32 + (rows if scales == "row" else 1)

    @classmethod
    def settings_of(cls, weight: torch.Tensor, budget: str | float, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A scale for each row where the budget allows it; what need not go on being rounded is rounded to the nearest."""
        rows, dim = weight.shape
        fits = cls.words(rows, dim, scales="row") <= parse_budget(budget, rows * dim)
        return {"scales": "row" if fits else "table", "rounding": "nearest", **settings}

    def set_rate(self, rate: float) -> None:
        if self.rate is None:
            self.moments.rate = rate

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        if not self.training or not torch.is_grad_enabled():
            return self._read(ids)
        own, back = torch.unique(ids, return_inverse=True)
        return embedding(back, self._noted(own, self._read(own)))

    def _noted(self, ids: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
        """`leaf` with a gradient of its own, which `after_step` finds when backward has been there."""
        leaf.requires_grad_()
        leaf.register_post_accumulate_grad_hook(lambda done: self._met.append((ids, done.grad)))  # type: ignore[no-untyped-call]
        return leaf

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        return self.codes[ids].to(self.steps.dtype) * (self.steps[ids] if len(self.steps) > 1 else self.steps)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the rows that the batch has met, and round them."""
        if self._met:
            (ids, gradients), self._met = summed(self._met), []
            self._store(ids, self.moments.moved(ids, self._read(ids), gradients))

    def _store(self, ids: torch.Tensor, rows: torch.Tensor) -> None:
        if self.scales == "row":
            self.steps[ids] = self._step_of(rows)
        steps = self.steps[ids] if len(self.steps) > 1 else self.steps
        self.codes[ids] = rounded(rows / steps, self.most(), self._generator()).to(self.stored)

    def _step_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Scales (m, 1) at which the largest value of each row has the largest code."""
        return rows.float().abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny * self.most()) / self.most()

    def _generator(self) -> torch.Generator | None:
        """Of this step: seeded by how many there were, so that a training that resumes goes on as it would have."""
        if self.rounding == "nearest":
            return None
        return torch.Generator().manual_seed(self.seed + (int(self.moments.count) if self.moments.begun else 0))

    @torch.no_grad()
    def fit(self, weight: torch.Tensor) -> None:
        if self.scales == "row":
            self.steps.copy_(self._step_of(weight))
        else:
            self.steps.copy_(self._step_of(weight.reshape(1, -1)))
        generator = self._generator()
        for start in range(0, len(weight), BLOCK):
            steps = self.steps[start : start + BLOCK] if self.scales == "row" else self.steps
            self.codes[start : start + BLOCK] = rounded(weight[start : start + BLOCK].float() / steps, self.most(), generator)

    @torch.no_grad()
    def export(self) -> Self:
        """Codes and scales alone, without moments."""
        if not self.moments.begun:
            return self
        table = type(self)(**self.config())
        table.load_state_dict({"codes": self.codes, "steps": self.steps})
        return table.train(self.training)

    def memory(self) -> Memory:
        return Memory({"codes": self.codes.numel() * self.bits / 32, "scales": self.steps.numel()})


class Int8Embedding(IntRows):
    r"""INT8: :math:`e_i = s\,c_i` with whole numbers :math:`c_i` of 8 bits from -127 to 127.

    scales : one s for the "table", which training leaves as it is, or one for each "row", by its largest value; `from_table` takes rows
        where the budget allows it. step : s in training, by default such that codes reach to 1.27, which is the bench's 0.01.
    rounding : "stochastic" as the paper rounds, whose mean error is 0; "nearest" stalls training where steps are shorter than s/2, and is
        what `from_table` does. seed : of that. optimizer, rate : of the steps of rows, which the table does itself; None takes the
        model's rate, where the trainer tells it, or 0.001.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`n d/4` words and 1, or n, for scales, in training too.
    """

    name = "int8"
    paper = LOW_PRECISION
    summary = "whole numbers of 8 bits"
    bits = 8
    stored = torch.int8


class Int16Embedding(IntRows):
    r"""INT16: as `int8` with numbers of 16 bits, -32767 to 32767.

    scales, step, rounding, seed, optimizer, rate, mode, padding_idx : as there.

    Returns rows (m, d) of float32. Takes :math:`n d/2` words and 1, or n, for scales.
    """

    name = "int16"
    paper = LOW_PRECISION
    summary = "whole numbers of 16 bits"
    bits = 16
    stored = torch.int16
