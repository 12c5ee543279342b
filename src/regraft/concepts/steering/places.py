"""Which rows of an encoded prompt are what: its start, its words, its end, the padding behind it."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from regraft.concepts.host.pipeline import Conditioning, content, encode, pieces, towers
from regraft.concepts.host.words import slots
from regraft.errors import ParameterError

Part = Literal["words", "prompt", "pad"]
Rows = Literal["all", "words", "padding"]


def places(pipeline: Any, prompt: str) -> tuple[list[int], int, list[int]]:
    """Places of a prompt's words, of its end, and of the padding, by the first tower. Place 0 is the start."""
    tower = towers(pipeline)[0]
    count, length = content(pipeline, prompt, tower), len(pieces(pipeline, prompt, tower))
    return list(range(1, count - 1)), count - 1, list(range(count, length))


def chosen(pipeline: Any, prompts: Sequence[str], rows: Rows, *, start: bool, protected: Sequence[str] = ()) -> torch.Tensor:
    """Which rows of prompts are to change (n, length). `start` : the first row too, where `rows` is all or words. `protected` : words
    whose rows stay as they are, in the prompts that hold them.

    Raises `ParameterError` for a protected word that no prompt holds.
    """
    length = len(pieces(pipeline, prompts[0], towers(pipeline)[0]))
    mask = torch.zeros(len(prompts), length, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        words, end, padding = places(pipeline, prompt)
        if rows != "padding":
            mask[row, [*([0] if start else []), *words, end]] = True
        if rows != "words":
            mask[row, padding] = True
    for word in protected:
        held = 0
        for row, prompt in enumerate(prompts):
            try:
                mask[row, slots(pipeline, prompt, word)] = False
                held += 1
            except ParameterError:
                continue
        if not held:
            raise ParameterError(f"protected: no prompt holds the word {word}, or each holds it behind the last place that is read")
    return mask


def unwanted_rows(pipeline: Any, phrases: Sequence[str], part: Part, *, caption: str = "{}", start: bool = False) -> Conditioning:
    """Rows of the encoder's output for what is unwanted: `embeds` (m, width), and `pooled` (phrases, width) for XL.

    Parameters
    ----------
    part : of each phrase its words; or all of it, its end and padding too; or the padding alone. caption : the sentence that holds the
        words, where the one is known by which the concept was trained, or one with ``{}`` in their place. start : the row of the start
        too; its length is huge, and it is the same for every prompt.

    Raises `ParameterError`: the caption does not hold a word, or a phrase leaves no padding.
    """
    if not phrases:
        return Conditioning(_encoded(pipeline, [""]).embeds[0, :0])
    sentences = [caption.replace("{}", phrase) for phrase in phrases]
    context = _encoded(pipeline, sentences)
    found = []
    for rows, phrase, sentence in zip(context.embeds, phrases, sentences, strict=True):
        words, end, padding = places(pipeline, sentence)
        if part == "words":
            taken = sorted({place for word in phrase.split() for place in slots(pipeline, sentence, word)})
        else:
            taken = padding if part == "pad" else [*words, end, *padding]
        if not taken:
            raise ParameterError(f"{sentence!r} fills all places of the encoder, so that no padding is left: give a shorter one")
        found.append(rows[[*([0] if start else []), *taken]])
    return Conditioning(torch.cat(found), context.pooled)


@torch.no_grad()
def _encoded(pipeline: Any, prompts: Sequence[str]) -> Conditioning:
    return encode(pipeline, prompts)
