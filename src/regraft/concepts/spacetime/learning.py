"""A word's network is learned: by the diffusion loss, each layer and time with the vector that it will read."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.words import Rows, rows_of, spliced
from regraft.concepts.kinds.mapper import MapperConcept
from regraft.concepts.learning import Step, descend, prompts_for
from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.concepts.spacetime.networks import Network, likeness
from regraft.concepts.spacetime.readers import reading_by
from regraft.errors import ParameterError


def row_of(pipeline: Any, word: str, method: str) -> dict[str, torch.Tensor]:
    """The row (1, width) of a word in each tower. Raises `ParameterError` for one of several pieces."""
    rows = rows_of(pipeline, word)
    count = max(len(one) for one in rows.values())
    if count > 1:
        raise ParameterError(
            f"--init {word!r} is {count} pieces to this tokenizer: {method} starts from one row: give a word that is one piece"
        )
    return rows


def learn_network(
    lesson: Lesson, plan: Plan, method: ConceptMethod, net: Network, row: Rows, *, flip: float, weight_decay: float
) -> Learned:
    """The word's network by the diffusion loss alone. `row` is what programs read that know of no network."""
    pipeline = lesson.pipeline
    net = net.to(pipeline.unet.device)
    parameters: dict[str, nn.Parameter] = dict(net.named_parameters())
    diffusion = Diffusion(pipeline, lesson.pictures.images, flip=flip)
    captions: Sequence[str] = lesson.captions()
    with spliced(pipeline, {lesson.word: row}), reading_by(pipeline, lesson.word, net) as readers:

        def loss_of(step: Step) -> torch.Tensor:
            prompts = prompts_for(lesson, step, list(captions))
            return diffusion.losses(step.batch, readers.teach(prompts, step.batch.t, step.generator)).mean()

        run = descend(diffusion, parameters, loss_of, method, plan, weight_decay=weight_decay)
    net.requires_grad_(False)
    concept = MapperConcept(lesson.word, net, dict(row), lesson.init)
    return Learned(concept, sum(value.numel() for value in parameters.values()), run.curve, likeness(net), run.stopped)
