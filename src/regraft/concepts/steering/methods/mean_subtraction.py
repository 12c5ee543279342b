"""Mean subtraction: the mean unwanted row is taken away from each row. A baseline of DECOR."""

from collections.abc import Sequence
from typing import Any

from regraft.concepts.host.pipeline import Conditioning
from regraft.concepts.steering.places import Part, Rows, chosen, unwanted_rows
from regraft.concepts.steering.steering import PromptSteering
from regraft.method import Paper


class MeanSubtraction(PromptSteering):
    r"""The prompt's rows minus the mean unwanted row, :math:`X' = X - \alpha\, \mathbf{1} \bar x^\top`.

    It shifts every row alike, whether the row holds anything unwanted or not: what a projection is
    to be better than.

    Attributes
    ----------
    undesired : rows of each phrase: its words, the whole prompt (with end and padding), or the padding alone.
    caption : the training caption that holds the unwanted words, or a sentence with ``{}`` for them.
    rows : which change: all, those up to the prompt's end, or the padding.
    """

    paper = Paper(
        "Linguistic Regularities in Continuous Space Word Representations", "Mikolov et al.", 2013, url="https://aclanthology.org/N13-1090"
    )
    summary = "baseline: subtract the mean unwanted row from every row of a prompt"

    undesired: Part = "words"
    caption: str = "{}"
    rows: Rows = "all"

    def __call__(
        self, pipeline: Any, prompts: Sequence[str], context: Conditioning, unwanted: Sequence[str], strength: float
    ) -> Conditioning:
        if not unwanted or not strength:
            return context
        mean = unwanted_rows(pipeline, unwanted, self.undesired, caption=self.caption).embeds.float().mean(0)
        share = strength * chosen(pipeline, prompts, self.rows, start=True).to(mean)[..., None]
        return context.with_embeds((context.embeds.float() - share * mean).to(context.embeds.dtype))
