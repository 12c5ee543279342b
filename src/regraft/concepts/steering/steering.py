"""The contract of a method that steers a prompt: what the U-Net is to read of it comes out changed, and nothing is trained.

Enters: a pipeline, prompts and their conditioning, what is unwanted in words, a strength. Leaves: another conditioning, for
`prompt_embeds=`. Methods see the encoder's output alone: neither the rows that went in, nor any weight.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from regraft.concepts.concept import Concept, context_of
from regraft.concepts.host.pipeline import Conditioning
from regraft.errors import ParameterError
from regraft.method import Method, resolve

FAMILY = "prompt-steering"
Task = Literal["stylization", "personalization"]
PRESETS: dict[Task, tuple[float, dict[str, Any]]] = {  # INFERRED: strength and settings of `decor` for a task
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
    """Prompts encoded and steered in one call, in a pipeline that has `concepts` in it (`together`).

    `task` gives the strength, and what of the unwanted phrases is taken, where the caller does not say. Raises `ParameterError`: unknown
    method or setting, a strength out of range, a phrase that is empty.
    """
    check_phrases(unwanted)
    usual, choices = PRESETS[task]
    given = {**(choices if method == "decor" else {}), **(settings or {})}
    steering: PromptSteering = resolve(FAMILY, method, given)
    context = context_of(pipeline, concepts, prompts)
    return steering(pipeline, prompts, context, list(unwanted), usual if strength is None else strength)


def check_phrases(unwanted: Sequence[str]) -> None:
    """Raises `ParameterError` for a phrase without a word."""
    if blank := [one for one in unwanted if not one.strip()]:
        raise ParameterError(f"--remove {blank[0]!r}: give a word or a phrase to take out of the prompt")
