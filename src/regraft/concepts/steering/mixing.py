"""Content of one concept in the style of another: each prompt without what the other one says, then both together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regraft.concepts.concept import Concept, context_of
from regraft.concepts.host.pipeline import Conditioning
from regraft.concepts.steering.methods.decor import Decor
from regraft.errors import ParameterError


@dataclass(frozen=True, kw_only=True)
class Side:
    """A prompt, and the words in it that carry what the other side is to lose, such as "sks" or "cat"."""

    prompt: str
    words: tuple[str, ...]


def mixed(
    pipeline: Any,
    content: Side,
    style: Side,
    strength: float = 1.0,
    *,
    share: float = 0.5,
    concepts: Sequence[Concept] = (),
    method: Decor | None = None,
) -> tuple[Conditioning, Conditioning, Conditioning]:
    r"""The mix of both, the content's side and the style's side of it, each for one image.

    .. math:: C' = C(I - \alpha P_S), \qquad S' = S(I - \alpha P_C), \qquad X' = (1 - s)\, C' + s\, S'

    :math:`P_S` spans the rows of the style's words in its own prompt, :math:`P_C` those of the content's. INFERRED: that both sides are
    put together by a mean, :math:`s` its `share` of style. The sides are given too, so that `switched` may draw the content's in the first
    steps and the style's in the last. Raises `ParameterError`: `share` out of range, words that their prompt does not hold.
    """
    if not 0 <= share <= 1:
        raise ParameterError(f"share={share}: give the part of the style, 0 to 1")
    way = method or Decor()
    sides = []
    for own, other in ((content, style), (style, content)):
        from_there = Decor(**{**vars(way), "undesired": "words", "caption": other.prompt})
        context = context_of(pipeline, concepts, [own.prompt])
        sides.append(from_there(pipeline, [own.prompt], context, other.words, strength))
    pooled = None
    if sides[0].pooled is not None and sides[1].pooled is not None:
        pooled = torch.lerp(sides[0].pooled, sides[1].pooled, share)
    return Conditioning(torch.lerp(sides[0].embeds, sides[1].embeds, share), pooled), sides[0], sides[1]
