"""Textual inversion: the rows of a new word, learned through the text tower. The baseline of the family."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from regraft.concepts.host.words import rows_of
from regraft.concepts.learning import learn_rows
from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.method import Paper


class TextualInversion(ConceptMethod):
    r"""A word's input rows, learned by the diffusion loss alone; they start as the rows of a known word.

    .. math:: v^* = \arg\min_v\; \mathbb{E}_{z, y, \epsilon, t} \lVert \epsilon - \epsilon_\theta(z_t, t, E(y; v)) \rVert^2

    where :math:`y` is a caption with the word in it and :math:`E` the text tower (section 3,
    equation 2). Only the ``(vectors, width)`` rows
    of each tower move.

    Attributes
    ----------
    vectors : pieces of the word; one known word is repeated over them.
    flip : how often an image is mirrored.
    weight_decay : of AdamW, on the rows.
    """

    paper = Paper("An Image is Worth One Word: Personalizing Text-to-Image Generation", "Gal et al.", 2022, "2208.01618")
    summary = "baseline: rows of a new word, from those of a known one, by the diffusion loss"

    steps: PositiveInt = 3000
    batch: PositiveInt = 4
    lr: PositiveFloat = 2e-3
    vectors: PositiveInt = 1
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    weight_decay: NonNegativeFloat = 1e-2

    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        start = rows_of(lesson.pipeline, lesson.init)
        if len(next(iter(start.values()))) != self.vectors:
            start = {key: value.expand(self.vectors, -1) for key, value in rows_of(lesson.pipeline, lesson.init, 1).items()}
        return learn_rows(lesson, plan, self, start, flip=self.flip, weight_decay=self.weight_decay)
