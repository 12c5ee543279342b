"""Univariate: each coordinate drawn from the mean and spread that the old rows have in it."""

from typing import ClassVar

import torch

from regraft.graft import Rows
from regraft.graft.moments import mean_and_std
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target


class Univariate(Initializer):
    r"""Independent normals per dimension: :math:`e_d \sim N(\mu_d, \sigma_d^2)` over the old rows of the same table.

    The "Random" start of low-resource vocabulary expansion and the fallback of FOCUS. Rows have trained length but lie outside the convex
    hull of the old rows almost surely, so greedy decoding of old text can drift to new tokens.

    Returns rows of shape (new tokens, d); input table and untied head each use their own statistics.
    """

    paper = Paper(
        "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language Models",
        "Mundra et al.",
        2024,
        "2407.05841",
    )
    summary = "each dimension drawn from the old rows' mean and spread"
    separate_head: ClassVar[bool] = True

    def __call__(self, source: Source, target: Target, context: Context) -> Rows:
        mean, std = mean_and_std(source.table)
        noise = torch.randn(len(target), source.table.shape[1], generator=source.generator(context), dtype=torch.float64)
        return Rows((mean + std * noise).to(source.table.dtype))
