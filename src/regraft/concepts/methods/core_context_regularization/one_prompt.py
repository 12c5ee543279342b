"""CoRe for one prompt: a learned word moves a little until the rest of just that prompt means what it did."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from regraft.concepts.concept import Concept
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.images import Pictures
from regraft.concepts.host.words import spliced
from regraft.concepts.kinds.finetuned import FinetunedConcept
from regraft.concepts.kinds.word import WordConcept
from regraft.concepts.learning import Step, descend, moved
from regraft.concepts.method import Learned, Plan
from regraft.concepts.methods.core_context_regularization.context import Pair
from regraft.concepts.methods.core_context_regularization.method import CoreContextRegularization
from regraft.errors import ParameterError

STEPS, RATE = 10, 5e-4


def fit_to_prompt(
    pipeline: Any,
    concept: Concept,
    prompt: str,
    pictures: Pictures,
    *,
    category: str | None = None,
    method: CoreContextRegularization | None = None,
    steps: int = STEPS,
    lr: float = RATE,
    seed: int = 0,
) -> Learned:
    """The concept for `prompt` alone, by both terms of `method` and without the diffusion loss.

    Parameters
    ----------
    prompt : with the concept's word, once or more often. pictures : that it was learned from: the attention term looks at them in noise.
    category : a known word that it is a case of; by default the one that it started from.

    Raises `ParameterError`: the word is not in the prompt, the concept has no rows, or no category is known.
    """
    method = method or CoreContextRegularization()
    if not isinstance(concept, WordConcept | FinetunedConcept) or not concept.rows:
        raise ParameterError(f"{concept.word} has no rows that could move: give a learned word, alone or beside a tuned U-Net")
    known = category or concept.init
    if not known:
        raise ParameterError(f"{concept.word} does not say what it is a case of: give its category, such as cat")
    if concept.word not in prompt:
        raise ParameterError(f"{prompt!r} does not hold the word {concept.word}")
    rows = {key: nn.Parameter(value.detach().float().clone()) for key, value in concept.rows.items()}
    diffusion = Diffusion(pipeline, pictures.images, flip=method.flip)
    with spliced(pipeline, {concept.word: rows}), concept.installed(pipeline), method.context(diffusion) as context:
        pair = Pair.of(pipeline, prompt.replace(concept.word, "{}"), concept.word, known, padding=method.padding)

        def loss_of(step: Step) -> torch.Tensor:
            return context.loss(step.batch, [], pair)

        paced = replace(method, steps=steps, lr=lr)
        run = descend(diffusion, rows, loss_of, paced, Plan(seed=seed), weight_decay=method.weight_decay, told="CoRe: the prompt")
    learned: Mapping[str, torch.Tensor] = {key: value.detach().clone() for key, value in rows.items()}
    count = sum(value.numel() for value in learned.values())
    return Learned(replace(concept, rows=learned), count, run.curve, moved(concept.rows, learned), run.stopped)
