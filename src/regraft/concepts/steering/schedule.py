"""Another conditioning for some of the denoising steps: steered late (SuppressEOT), or early alone (SAFREE)."""

from collections.abc import Callable
from typing import Any

from regraft.concepts.host.pipeline import Conditioning
from regraft.errors import ParameterError

NAMES = {"prompt_embeds": "embeds", "add_text_embeds": "pooled"}


def switched(pipeline: Any, first: Conditioning, then: Conditioning, share: float) -> dict[str, Any]:
    """What to call the pipeline with, so that it reads `first` for a `share` of its steps and `then` after them.

    Raises `ParameterError`: a share out of range, conditionings of two shapes.
    """
    if not 0 <= share <= 1:
        raise ParameterError(f"share={share}: give the part of the steps before the change, 0 to 1")
    if first.embeds.shape != then.embeds.shape:
        raise ParameterError(
            f"conditionings of shapes {tuple(first.embeds.shape)} and {tuple(then.embeds.shape)}: they must be of one shape"
        )
    names = [name for name, field in NAMES.items() if getattr(then, field) is not None]
    return {
        **(then if share == 0 else first).arguments(),
        "callback_on_step_end": _at(pipeline, then, share),
        "callback_on_step_end_tensor_inputs": names,
    }


def _at(pipeline: Any, then: Conditioning, share: float) -> Callable[..., dict[str, Any]]:
    def after(_: Any, step: int, time: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step + 1 != max(1, round(share * pipeline.num_timesteps)):
            return given
        for name in given:
            new = getattr(then, NAMES[name])
            old = given[name]
            images = old.shape[0] // (2 if pipeline.do_classifier_free_guidance else 1)
            new = new.repeat_interleave(images // new.shape[0], 0).to(old)
            given[name] = old.clone()
            given[name][-images:] = new
        return given

    return after
