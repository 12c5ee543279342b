"""The contract of a method that steers a prompt: what the U-Net is to read of it comes out changed, and nothing is trained.

Enters: a pipeline, prompts and their conditioning, what is unwanted in words, a strength. Leaves: another conditioning, for
`prompt_embeds=`. Methods see the encoder's output alone: neither the rows that went in, nor any weight.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from regraft.concepts.concept import Concept, context_of
from regraft.concepts.drawing import Steer
from regraft.concepts.host.pipeline import Conditioning
from regraft.errors import ParameterError
from regraft.method import Method, resolve

FAMILY = "prompt-steering"
Task = Literal["stylization", "personalization"]
PRESETS: dict[Task, tuple[float, dict[str, Any]]] = {  # INFERRED: strength, and settings of `decor`
    "stylization": (1.0, {"undesired": "words"}),
    "personalization": (0.5, {"undesired": "prompt"}),
}


class PromptSteering(Method):
    """Base of every method that takes something out of a prompt's conditioning."""

    family = FAMILY

    @abstractmethod
    def __call__(
        self, pipeline: Any, prompts: Sequence[str], context: Conditioning, unwanted: Sequence[str], strength: float
    ) -> Conditioning:
        """`context` of `prompts` without what the phrases of `unwanted` say, by `strength` (0: `context` itself)."""


def steer(
    unwanted: Sequence[str],
    strength: float | None = None,
    *,
    method: str = "decor",
    settings: Mapping[str, Any] | None = None,
    task: Task = "stylization",
) -> Steer:
    """What `draw` calls on each batch of prompts.

    `task` gives the strength, and which rows of the unwanted phrases are taken, where the caller does not say: for a style, the content
    words of its training caption, all of them out; for a concept, the whole prompt that it was trained by, half of it out.

    Raises `ParameterError`: an unknown method, task or setting, a strength that is no number, a phrase that is empty.
    """
    if blank := [one for one in unwanted if not one.strip()]:
        raise ParameterError(f"--remove {blank[0]!r}: give a word or a phrase to take out of the prompt")
    if task not in PRESETS:
        raise ParameterError(f"task {task!r}: choose {' or '.join(PRESETS)}")
    usual, choices = PRESETS[task]
    share = usual if strength is None else strength
    if not math.isfinite(share):
        raise ParameterError(f"--strength {share}: give a number, 0 (untouched) to 1")
    steering: PromptSteering = resolve(FAMILY, method, {**(choices if method == "decor" else {}), **(settings or {})})
    return lambda pipeline, prompts, context: steering(pipeline, prompts, context, list(unwanted), share)


def steered(
    pipeline: Any,
    prompts: Sequence[str],
    unwanted: Sequence[str],
    strength: float | None = None,
    *,
    concepts: Sequence[Concept] = (),
    method: str = "decor",
    settings: Mapping[str, Any] | None = None,
    task: Task = "stylization",
) -> Conditioning:
    """Prompts encoded and steered in one call, in a pipeline that has `concepts` in it (`together`); the rest is as in `steer`."""
    change = steer(unwanted, strength, method=method, settings=settings, task=task)
    return change(pipeline, prompts, context_of(pipeline, concepts, prompts))
