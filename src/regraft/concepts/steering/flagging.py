"""Which words of a prompt bring it near to what is unwanted: those without which it lies farther off (as SAFREE finds them)."""

from typing import Any

import torch

from regraft.concepts.host.pipeline import encode
from regraft.concepts.host.words import slots
from regraft.concepts.steering.places import places
from regraft.concepts.steering.projection import Basis


@torch.no_grad()
def flagged(pipeline: Any, prompt: str, off: Basis, margin: float) -> list[int]:
    """Places of the words of `prompt` without which its end lies at least `1 + margin` times as far from the unwanted span.

    The measure for a word is the mean distance over the prompts that leave out one of the others. A prompt of one word has it flagged.
    """
    words = prompt.split()
    if len(words) < 2:
        return places(pipeline, prompt)[0]
    shorter = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
    ends = torch.tensor([places(pipeline, one)[1] for one in shorter])
    rows = encode(pipeline, shorter).embeds[torch.arange(len(words)), ends].float()
    directions = off.vectors.to(rows)
    far = (rows - (rows @ directions) @ directions.T).norm(dim=-1)
    others = (far.sum() - far) / (len(words) - 1)
    found = {word for word, one in zip(words, far >= (1 + margin) * others, strict=True) if one}
    return sorted({place for word in found for place in slots(pipeline, prompt, word)})
