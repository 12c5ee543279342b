"""Constituent exponential: the last old piece dominates an input row, the first a head row."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from regraft.graft import Graft
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target


class ConstituentExponential(Initializer):
    r"""Exponentially weighted old pieces: weight :math:`\propto e^{\lambda i}` (input) or :math:`\propto e^{-\lambda i}` (head).

    With pieces :math:`p_1 \dots p_k`, an input row :math:`\sum_i w_i E_{p_i}` with the last piece heaviest resembles what the model saw
    just before predicting on; a head row with the first piece heaviest competes where the first piece used to. A tied
    table follows `input`.

    Parameters
    ----------
    rate : :math:`\lambda` > 0; 2 in the re-implementation that Token Distillation compares with.
    input, head : which end of the spelling weighs most in that table.

    Returns a graft of shape (new tokens, old tokens) with rows that sum to 1.
    """

    paper = Paper(
        "AdaptiVocab: Enhancing LLM Efficiency in Focused Domains through Lightweight Vocabulary Adaptation",
        "Nakash et al.",
        2025,
        "2503.19693",
    )
    summary = "old pieces, the last weighing most (input) or the first (head)"
    separate_head: ClassVar[bool] = True

    rate: Annotated[float, Field(gt=0)] = 2.0
    input: Literal["last", "first"] = "last"
    head: Literal["last", "first"] = "first"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        heaviest = self.input if source.role == "input" else self.head
        weights = [exponential_weights(len(p), self.rate, heaviest) for p in target.pieces]
        return Graft.from_ragged(target.pieces, source.vocab_size, weights)


def exponential_weights(count: int, rate: float, heaviest: str) -> list[float]:
    """Weights ``exp(rate * i)`` (heaviest last) or ``exp(-rate * i)`` over `count` places, scaled to sum to 1."""
    if count == 0:
        return []
    exponents = -rate * np.arange(count, dtype=np.float64)  # the heaviest place has exponent 0: no overflow for long spellings
    weights = np.exp(exponents[::-1] if heaviest == "last" else exponents)
    return list((weights / weights.sum()).tolist())
