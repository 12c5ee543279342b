"""Whole numbers of 8 or 16 bits, with a scale for the table or for each row."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch

from regraft.method import Paper
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.memory import Memory, parse_budget

LOW_PRECISION = Paper("Training with Low-Precision Embedding Tables", "Zhang et al.", 2018, url="https://learningsys.org/nips18/assets/papers/47CameraReadySubmissionjian-zhang.pdf")  # fmt: skip  # noqa: E501
BLOCK = 1 << 16  # rows at a time


class IntRows(CompressedEmbedding):
    """What both widths share. `bits` : of a number. `stored` : its type."""

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
        rounding: Literal["nearest", "stochastic"] = "nearest",
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.scales, self.rounding, self.seed = scales, rounding, seed
        drawn = torch.randint(-self.most(), self.most() + 1, (num_embeddings, embedding_dim), dtype=self.stored)
        self.register_buffer("codes", drawn)
        steps = torch.full((num_embeddings if scales == "row" else 1, 1), math.sqrt(1 / num_embeddings) / self.most())
        self.register_buffer("steps", steps)

    @classmethod
    def most(cls) -> int:
        """The largest code; the smallest is its negative."""
        return int((1 << (cls.bits - 1)) - 1)

    @classmethod
    def words(cls, rows: int, dim: int, *, scales: str = "table", **_: Any) -> float:
        return rows * dim * cls.bits / 32 + (rows if scales == "row" else 1)

    @classmethod
    def settings_of(cls, weight: torch.Tensor, budget: str | float, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A scale for each row where the budget allows it."""
        rows, dim = weight.shape
        fits = cls.words(rows, dim, scales="row") <= parse_budget(budget, rows * dim)
        return {"scales": "row" if fits else "table", **settings}

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return self.codes[ids].to(self.steps.dtype) * (self.steps[ids] if self.scales == "row" else self.steps)

    @torch.no_grad()
    def fit(self, weight: torch.Tensor) -> None:
        largest = weight.abs().amax(1, keepdim=True) if self.scales == "row" else weight.abs().amax().reshape(1, 1)
        self.steps.copy_(largest.float().clamp(min=torch.finfo(torch.float32).tiny * self.most()) / self.most())
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(weight), BLOCK):
            steps = self.steps[start : start + BLOCK] if self.scales == "row" else self.steps
            scaled = weight[start : start + BLOCK].float() / steps
            shift = torch.rand(scaled.shape, generator=generator) if self.rounding == "stochastic" else 0.5
            self.codes[start : start + BLOCK] = (scaled + shift).floor().clamp(-self.most(), self.most()).to(self.stored)

    def memory(self) -> Memory:
        return Memory({"codes": self.codes.numel() * self.bits / 32, "scales": self.steps.numel()})


class Int8Embedding(IntRows):
    r"""INT8: :math:`e_i = s\,c_i` with whole numbers :math:`c_i` of 8 bits from -127 to 127; the largest value decides s.

    scales : one s for the "table", or one for each "row"; `from_table` takes rows where the budget allows it.
    rounding : "nearest", or "stochastic" as the paper rounds, whose mean error is 0. seed : of that.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`n d/4` words and 1, or n, for scales. Codes stay as they are in training.
    """

    name = "int8"
    paper = LOW_PRECISION
    summary = "whole numbers of 8 bits"
    bits = 8
    stored = torch.int8


class Int16Embedding(IntRows):
    r"""INT16: as `int8` with numbers of 16 bits, -32767 to 32767.

    scales, rounding, seed, mode, padding_idx : as there.

    Returns rows (m, d) of float32. Takes :math:`n d/2` words and 1, or n, for scales.
    """

    name = "int16"
    paper = LOW_PRECISION
    summary = "whole numbers of 16 bits"
    bits = 16
    stored = torch.int16
