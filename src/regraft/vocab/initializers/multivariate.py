"""Multivariate: new rows drawn around the mean row with the old rows' covariance, scaled down."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from regraft.graft import Rows
from regraft.graft.moments import sample_near_mean
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target


class Multivariate(Initializer):
    r"""One normal over the table: :math:`e \sim N(\mu, c\,\Sigma)`, :math:`\Sigma = (E-\mu)^\top(E-\mu)/n`.

    With the paper's code's :math:`c = 10^{-5}` every new row is the mean row but for a tremor; :math:`c = 1` gives rows with the spread of
    trained ones. :math:`\Sigma` is d x d and is summed in blocks in float64.

    Parameters
    ----------
    c : scale of the covariance, >= 0.

    Returns rows of shape (new tokens, d); input table and untied head each use their own statistics.
    """

    paper = Paper(
        "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language Models",
        "Mundra et al.",
        2024,
        "2407.05841",
    )
    summary = "drawn around the mean row with the old rows' covariance"
    separate_head: ClassVar[bool] = True

    c: Annotated[float, Field(ge=0)] = 1e-5

    def __call__(self, source: Source, target: Target, context: Context) -> Rows:
        rows: torch.Tensor = sample_near_mean(source.table, len(target), self.c, source.generator(context))
        return Rows(rows)
