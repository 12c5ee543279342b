"""SuppressEOT: the strongest axes of a prompt's unwanted words and of its end are weakened. A baseline of DECOR."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field

from regraft.concepts.host.pipeline import Conditioning
from regraft.concepts.host.words import slots
from regraft.concepts.steering.places import places, unwanted_rows
from regraft.concepts.steering.steering import PromptSteering
from regraft.errors import ParameterError
from regraft.method import Paper


class SuppressEot(PromptSteering):
    r"""Soft weighting of the singular values of unwanted rows and of the rows from the prompt's end on.

    The prompt's rows of the unwanted words, its end and its padding make one matrix
    :math:`U \Sigma V^\top`; each :math:`\sigma` becomes :math:`\sigma \beta e^{-\alpha \sigma}`, and
    the rows are written back. Strength 1 is :math:`\alpha = 1`. Of a word that the prompt does not
    hold the row is taken from its phrase alone, and not written back. That the rows are exchanged
    after the first fifth of the steps is `schedule.late` of this library.

    Attributes
    ----------
    beta : a factor on all singular values; above 1 with a negative strength it strengthens.
    """

    paper = Paper(
        "Get What You Want, Not What You Don't: Image Content Suppression for Text-to-Image Diffusion Models",
        "Li et al.", 2024, "2402.05375",
    )  # fmt: skip
    summary = "baseline: weaken the strongest axes of unwanted words and of a prompt's end"

    beta: Annotated[float, Field(gt=0)] = 1.0

    def __call__(
        self, pipeline: Any, prompts: Sequence[str], context: Conditioning, unwanted: Sequence[str], strength: float
    ) -> Conditioning:
        if not unwanted or not strength:
            return context
        embeds = context.embeds.clone()
        for row, prompt in enumerate(prompts):
            held, absent = _held(pipeline, prompt, unwanted)
            _, end, padding = places(pipeline, prompt)
            own = sorted({*held, end, *padding})
            beside = unwanted_rows(pipeline, absent, "words").embeds.double()
            stacked = torch.cat([embeds[row, own].double(), beside])
            u, values, turned = torch.linalg.svd(stacked, full_matrices=False)
            weaker = (u * (values * self.beta * torch.exp(-strength * values))) @ turned
            embeds[row, own] = weaker[: len(own)].to(embeds.dtype)
        return context.with_embeds(embeds)


def _held(pipeline: Any, prompt: str, unwanted: Sequence[str]) -> tuple[list[int], list[str]]:
    """Places of unwanted words in a prompt, and the words that it does not hold."""
    found: list[int] = []
    absent = []
    for word in " ".join(unwanted).split():
        try:
            found += slots(pipeline, prompt, word)
        except ParameterError:
            absent.append(word)
    return found, absent
