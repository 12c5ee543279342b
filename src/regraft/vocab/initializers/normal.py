"""Normal: new rows as the model's own initializer would draw them, knowing nothing."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from regraft.graft import Rows
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target


class Normal(Initializer):
    r"""Fresh weights: :math:`e \sim N(0, \sigma^2 I)` with :math:`\sigma` the model's ``initializer_range``.

    The weakest baseline ("random" in the comparison of Mundra et al.): rows are far shorter than trained ones and outside the convex
    hull of the old rows.

    Parameters
    ----------
    std : standard deviation :math:`\sigma`, in the table's units, >= 0; None takes the model's ``initializer_range``.

    Returns rows of shape (new tokens, d); an untied head draws its own.
    """

    paper = Paper(
        "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language Models",
        "Mundra et al.",
        2024,
        "2407.05841",
    )
    summary = "fresh weights from the model's own initializer"
    separate_head: ClassVar[bool] = True

    std: Annotated[float, Field(ge=0)] | None = None

    def __call__(self, source: Source, target: Target, context: Context) -> Rows:
        std = source.initializer_range if self.std is None else self.std
        noise = torch.randn(len(target), source.table.shape[1], generator=source.generator(context))
        return Rows((std * noise).to(source.table.dtype))
