"""The second stage: searched rows stay, and weights are tuned beside them by any method, or the pipeline is called as it is.

Inside `conditioned_by` the pipeline's own `encode_prompt` answers with the concepts in its prompts: what calls it needs to know nothing.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from regraft.concepts.concept import Concept, together
from regraft.concepts.host.pipeline import Conditioning


@contextmanager
def conditioned_by(pipeline: Any, concepts: Sequence[Concept]) -> Iterator[Any]:
    """The pipeline, whose prompts hold `concepts` wherever they are encoded; given back as it was. Negative prompts stay as they are."""
    own = pipeline.encode_prompt
    signature = inspect.signature(own)

    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        found = own(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        prompt = given.get("prompt")
        if prompt is None or given.get("prompt_embeds") is not None:
            return found
        told = [prompt] if isinstance(prompt, str) else list(prompt)
        told = [text for text in told for _ in range(given.get("num_images_per_prompt", 1))]
        context = Conditioning(found[0], found[2] if len(found) > 2 else None)
        for one in concepts:
            context = one.conditioned(pipeline, told, context)
        return (context.embeds, found[1]) if len(found) == 2 else (context.embeds, found[1], context.pooled, *found[3:])

    with together(pipeline, concepts):
        pipeline.encode_prompt = encode_prompt
        try:
            yield pipeline
        finally:
            del pipeline.encode_prompt
