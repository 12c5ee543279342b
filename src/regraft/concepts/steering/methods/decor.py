"""DECOR: unwanted directions are projected out of what the U-Net reads of a prompt."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt

from regraft.concepts.host.pipeline import Conditioning, towers
from regraft.concepts.steering.flagging import flagged
from regraft.concepts.steering.places import Part, Rows, chosen, unwanted_rows
from regraft.concepts.steering.projection import TOLERANCE, Basis, basis, lost, projected
from regraft.concepts.steering.steering import PromptSteering
from regraft.method import Paper


class Decor(PromptSteering):
    r"""The prompt's rows, projected off the span of unwanted rows.

    .. math:: \tilde X = \tilde U \tilde\Sigma \tilde V^\top, \qquad X' = X - \alpha\, X \tilde V \tilde V^\top

    :math:`X` (length, width) is the text encoder's output, :math:`\tilde X` (m, width) its rows for what is unwanted, :math:`\alpha` the
    strength. Several phrases make one joint :math:`\tilde X`. Formula, decomposition and the sweep of :math:`\alpha` are the paper's; it
    was read in summaries alone. INFERRED, and to be chosen here: which rows are unwanted, which change, how many directions, the start's
    row, XL's joined encoders and pooled vector. `renorm` and `flag` are extensions.

    Attributes
    ----------
    undesired : rows of each phrase: its words, the whole prompt (with end and padding), or the padding alone.
    caption : the training caption that holds the unwanted words, or a sentence with ``{}`` for them.
    start : the start's row is unwanted too.
    rows : which change: all, those up to the prompt's end, or the padding.
    move_start : whether the row of the start changes.
    protected : words, separated by blanks, whose rows stay.
    rank : directions at most; None: all.
    energy : as few directions as hold this share of the energy; None: all.
    tolerance : of the largest singular value; directions below are noise.
    blocks : XL's two encoders as one matrix, or each by itself.
    pooled : XL's pooled vector: left, or projected off those of the phrases.
    renorm : rows get their length back (extension).
    flag : only words change without which the prompt is by this share farther from what is unwanted, as in SAFREE; None: all (extension).
    """

    paper = Paper(
        "Decomposition and Projection of Text Embeddings for Text-to-Image Customization", "Jang et al.", 2024, "2412.09169"
    )  # fmt: skip
    summary = "project unwanted directions out of a prompt's rows, without training"

    undesired: Part = "words"
    caption: str = "{}"
    start: bool = False
    rows: Rows = "all"
    move_start: bool = True
    protected: str = ""
    rank: PositiveInt | None = None
    energy: float | None = Field(None, gt=0, le=1)
    tolerance: float = Field(TOLERANCE, ge=0, lt=1)
    blocks: Literal["joint", "each"] = "joint"
    pooled: Literal["left", "projected"] = "left"
    renorm: bool = False
    flag: float | None = Field(None, ge=0)

    def __call__(
        self, pipeline: Any, prompts: Sequence[str], context: Conditioning, unwanted: Sequence[str], strength: float
    ) -> Conditioning:
        found = unwanted_rows(pipeline, unwanted, self.undesired, caption=self.caption, start=self.start)
        return self.off(pipeline, prompts, context, found, strength)

    def off(
        self, pipeline: Any, prompts: Sequence[str], context: Conditioning, unwanted: Conditioning, strength: float | torch.Tensor
    ) -> Conditioning:
        """The same with `unwanted` rows (m, width) that the caller chose, for example of another encoder; `strength` may be (n, length)."""
        moved = chosen(pipeline, prompts, self.rows, start=self.move_start, protected=self.protected.split())
        if self.flag is not None:
            held, off = torch.zeros_like(moved), self.joint(unwanted.embeds)
            for row, prompt in enumerate(prompts):
                held[row, flagged(pipeline, prompt, off, self.flag)] = True
            moved &= held
        alpha = (moved.double() * strength).to(context.embeds.device)
        width = 0
        parts = []
        for one in self.bases(pipeline, unwanted.embeds):
            end = width + one.vectors.shape[0]
            parts.append(projected(context.embeds[..., width:end], one, alpha, renorm=self.renorm))
            width = end
        embeds = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
        if self.pooled == "left" or context.pooled is None or unwanted.pooled is None:
            return context.with_embeds(embeds)
        whole = float(torch.as_tensor(strength).max())
        return Conditioning(embeds, projected(context.pooled, self.joint(unwanted.pooled), whole, renorm=self.renorm))

    def bases(self, pipeline: Any, unwanted: torch.Tensor) -> list[Basis]:
        """The directions to take out: of all columns, or of each encoder's."""
        if self.blocks == "joint":
            return [self.joint(unwanted)]
        widths = [tower.width for tower in towers(pipeline)]
        return [self.joint(part) for part in torch.split(unwanted, widths, dim=-1)]

    def joint(self, rows: torch.Tensor) -> Basis:
        """The directions that rows (m, width) span, as many as are wanted."""
        return basis(rows, rank=self.rank, energy=self.energy, tolerance=self.tolerance)

    def lost(self, pipeline: Any, context: Conditioning, unwanted: Sequence[str]) -> torch.Tensor:
        """The share of each row (n, length) that lies in the unwanted directions: what strength 1 takes away."""
        found = unwanted_rows(pipeline, unwanted, self.undesired, caption=self.caption, start=self.start)
        return lost(context.embeds, self.joint(found.embeds))
