"""Weights tuned to pictures of a concept, with pictures of its class beside them so that the class stays what it was (DreamBooth)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.captions import known
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.pipeline import encode, spelled, towers
from regraft.concepts.host.words import Rows, rows_of, spliced
from regraft.concepts.learning import Run, Step, descend, prompts_for
from regraft.concepts.method import ConceptMethod, Lesson, Plan

PLAIN = "a photo of {}"


class Tuning(ConceptMethod):
    """Base of what tunes weights: its captions, its word, its loss.

    Attributes
    ----------
    rare : a word that says nothing yet; the concept's own word stands for it and the class. prior : pictures of the class that the
    pipeline draws itself before it learns; 0: none. prior_weight : of their loss. prior_steps : of the sampler that draws them.
    flip : how often an image is mirrored. weight_decay : of AdamW. clip : length to which gradients are cut.
    """

    rare: str = "sks"
    prior: NonNegativeInt = 0
    prior_weight: NonNegativeFloat = 1.0
    prior_steps: PositiveInt = 50
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    weight_decay: NonNegativeFloat = 1e-2
    clip: PositiveFloat | None = 1.0

    def rows(self, lesson: Lesson) -> Rows:
        """What the word stands for, by tower: the rare word and the class; nothing where the tokenizer has the word itself."""
        if all(len(spelled(lesson.pipeline, lesson.word, tower)) == 1 for tower in towers(lesson.pipeline)):
            return {}
        return rows_of(lesson.pipeline, f"{self.rare} {lesson.init}")

    def class_pictures(self, lesson: Lesson, seed: int) -> Diffusion | None:
        """What the pipeline draws of the class as it is, to learn beside the concept."""
        if not self.prior:
            return None
        how = Drawing(steps=self.prior_steps, seed=seed)
        drawn = draw(lesson.pipeline, [], [self.class_prompt(lesson)] * self.prior, how, told=f"pictures of {lesson.init}")
        return Diffusion(lesson.pipeline, drawn, flip=self.flip)

    def class_prompt(self, lesson: Lesson) -> str:
        return self.sentences(lesson)[0].replace("{}", lesson.init)

    def sentences(self, lesson: Lesson) -> list[str]:
        """Captions: those that the lesson gives, else one sentence."""
        return known(lesson.pipeline, list(lesson.sentences or [PLAIN]), lesson.init)

    def tune(self, lesson: Lesson, plan: Plan, parameters: Mapping[str, nn.Parameter], rows: Rows, beside: Diffusion | None) -> Run:
        r"""Descend on :math:`L(\text{pictures}, \text{word}) + w L(\text{class pictures}, \text{class})` over `parameters`."""
        pipeline, captions = lesson.pipeline, self.sentences(lesson)
        own = Diffusion(pipeline, lesson.pictures.images, flip=self.flip)
        with torch.no_grad():
            of_class = encode(pipeline, [self.class_prompt(lesson)] * self.batch)

        def loss_of(step: Step) -> torch.Tensor:
            with torch.no_grad():
                context = encode(pipeline, prompts_for(lesson, step, captions))
            loss = own.losses(step.batch, context).mean()
            if beside is None:
                return loss
            return loss + self.prior_weight * beside.losses(beside.batch(self.batch, step.generator), of_class).mean()

        with spliced(pipeline, {lesson.word: rows} if rows else {}):
            return descend(own, parameters, loss_of, self, plan, weight_decay=self.weight_decay, clip=self.clip)
