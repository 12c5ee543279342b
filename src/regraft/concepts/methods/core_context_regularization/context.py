"""What a new word does to its context: the other places of a prompt, beside the same prompt with the category in its place."""

from dataclasses import dataclass, fields
from typing import Any

import torch

from regraft.concepts.host.attention import Maps
from regraft.concepts.host.diffusion import Batch, Diffusion
from regraft.concepts.host.pipeline import Conditioning, content, encode, pieces, towers
from regraft.errors import ParameterError


@dataclass(frozen=True)
class Pair:
    """A template filled with the word (`ours`) and with its category (`theirs`), and the places of each that are compared."""

    ours: str
    theirs: str
    places: tuple[list[int], list[int]]

    @classmethod
    def of(cls, pipeline: Any, template: str, word: str, category: str, *, padding: bool = False) -> "Pair":
        """In a pipeline that has the word. Raises `ParameterError`: the template is too long, or joins the word to its neighbor."""
        ours, theirs = (places(pipeline, template, one, padding=padding) for one in (word, category))
        if len(ours) != len(theirs) and not padding:
            raise ParameterError(f"{template!r} has other neighbors around {word} than around {category}: part them by spaces")
        least = min(len(ours), len(theirs))
        return cls(template.replace("{}", word), template.replace("{}", category), (ours[:least], theirs[:least]))


def places(pipeline: Any, template: str, filler: str, *, padding: bool = False) -> list[int]:
    """Places of a filled template that the filler does not take: from its start to its first end, or with `padding` to the last."""
    tower = towers(pipeline)[0]
    prompt, parts = template.replace("{}", filler), template.split("{}")
    ids, own = pieces(pipeline, prompt, tower), pieces(pipeline, filler, tower)[1 : content(pipeline, filler, tower) - 1]
    told = pipeline.maybe_convert_prompt(prompt, tower.tokenizer(pipeline))
    if len(tower.tokenizer(pipeline).tokenize(told)) + 2 > len(ids):
        raise ParameterError(f"{prompt!r} is longer than the {len(ids)} places that this pipeline reads: shorten it")
    if len(parts) < 2:
        raise ParameterError(f"{template!r} has no place for the word: put {{}} where it stands")
    taken: set[int] = set()
    for number in range(1, len(parts)):
        start = content(pipeline, filler.join(parts[:number]), tower) - 1
        if ids[start : start + len(own)] != own:
            raise ParameterError(f"{template!r} joins the word to its neighbor: part {{}} by spaces")
        taken |= set(range(start, start + len(own)))
    return [place for place in range(len(ids) if padding else content(pipeline, prompt, tower)) if place not in taken]


def embedding_term(ours: torch.Tensor, theirs: torch.Tensor, *, released: bool = False) -> torch.Tensor:
    """One less the mean cosine of what the tower says at places (n, width); `released`: the cosine of each column over places."""
    return 1 - torch.cosine_similarity(ours, theirs.to(ours), dim=0 if released else 1).mean()


def attention_term(ours: torch.Tensor, theirs: torch.Tensor, *, released: bool = False) -> torch.Tensor:
    """Squared difference of how much pixels look at places, (layers, n images, places) each.

    The mean over layers is squared, and the mean taken over places and images. `released`: squares of each layer, summed over images.
    """
    if released:
        return (ours - theirs).square().mean((0, 2)).sum()
    return (ours.mean(0) - theirs.mean(0)).square().mean()


def looked_at(map_: torch.Tensor) -> torch.Tensor:
    """How much a layer looks at each place (n, places), by its probabilities (n, heads, pixels, places)."""
    return map_.mean((1, 2))


@dataclass(frozen=True, eq=False)
class Context:
    """The terms of CoRe. `maps` : `host.attention.recorded` with `looked_at`, open while they are taken; unused where `lam_attn` is 0."""

    diffusion: Diffusion
    maps: Maps
    lam_emb: float
    lam_attn: float
    released: bool = False

    def loss(self, batch: Batch, captions: list[str], pair: Pair) -> torch.Tensor:
        """Diffusion loss of `captions` (none: no such loss), and both terms of `pair` on the same noisy images at the same times."""
        pipeline, size, told = self.diffusion.pipeline, len(batch.rows), len(captions)
        context = encode(pipeline, [*captions, pair.ours])
        ours, theirs = pair.places
        with torch.no_grad():
            known = encode(pipeline, [pair.theirs])
        total = self.lam_emb * embedding_term(context.embeds[told, ours], known.embeds[0, theirs], released=self.released)
        if not self.lam_attn:
            return total + self.diffusion.losses(batch, context[:told]).mean() if told else total
        rows = [*range(told), *[told] * size]
        losses = self.diffusion.losses(repeated(batch, len(rows) // size), context[rows])
        seen = self._seen()[:, told:, ours]
        with torch.no_grad():
            self.diffusion.predict(batch, _each(known, size))
        total = total + self.lam_attn * attention_term(seen, self._seen()[:, :, theirs], released=self.released)
        return total + losses[:told].mean() if told else total

    def _seen(self) -> torch.Tensor:
        """Of the latest pass, (layers, images, places)."""
        return torch.stack([map_.float() for map_ in self.maps.values()])


def repeated(batch: Batch, times: int) -> Batch:
    """The same images at the same moments, `times` times."""
    return Batch(**{part.name: torch.cat([getattr(batch, part.name)] * times) for part in fields(Batch)})


def _each(context: Conditioning, count: int) -> Conditioning:
    return context[[0] * count]
