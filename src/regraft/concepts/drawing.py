"""Images of prompts by a pipeline with concepts in it: each image has noise of its own seed, so that ways can be set beside each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regraft.concepts.concept import Concept, context_of, together
from regraft.concepts.host.pipeline import Conditioning
from regraft.progress import progress_bar

Steer = Callable[[Any, Sequence[str], Conditioning], Conditioning]  # pipeline, prompts, context -> context


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How images are drawn. `steps` of the pipeline's sampler; `guidance` : 1 is none; `negative` : what is drawn away from."""

    steps: int = 50
    guidance: float = 7.5
    negative: str = ""
    seed: int = 0
    batch: int = 8


USUAL = Drawing()


def draw(
    pipeline: Any,
    concepts: Sequence[Concept],
    prompts: Sequence[str],
    how: Drawing = USUAL,
    *,
    steer: Steer | None = None,
    told: str = "drawing",
) -> torch.Tensor:
    """One image a prompt, (n, 3, side, side) in [-1, 1] on the CPU; image i has the seed `how.seed + i`, whatever the batch."""
    images = []
    with together(pipeline, concepts), torch.no_grad(), progress_bar(told, len(prompts)) as bar:
        for start in range(0, len(prompts), how.batch):
            part = list(prompts[start : start + how.batch])
            context = context_of(pipeline, concepts, part)
            if steer is not None:
                context = steer(pipeline, part, context)
            noise = [torch.Generator().manual_seed(how.seed + start + i) for i in range(len(part))]
            drawn = pipeline(
                **context.arguments(),
                negative_prompt=[how.negative] * len(part) if how.negative else None,
                num_inference_steps=how.steps,
                guidance_scale=how.guidance,
                generator=noise,
                output_type="pt",
            )
            images.append(drawn.images.float().cpu() * 2 - 1)
            bar.advance(len(part))
    return torch.cat(images)
