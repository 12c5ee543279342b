"""The layers of cross-attention of a U-Net, each reading its own keys and values of a prompt at the time it is asked for.

Hooks give the context to a layer's `to_k` and `to_v`; the layer's processor stays as it is, so every way of computing attention works, and
images without these words are what they were, bit for bit.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from regraft.concepts.host.pipeline import Conditioning
from regraft.concepts.spacetime.networks import Network, Vectors
from regraft.concepts.spacetime.reading import Reading, contexts, read
from regraft.errors import ParameterError

KEPT = 2**30  # bytes of contexts that are kept for images to come
RUNS = ("down_blocks", "mid_block", "up_blocks")  # the order in which a U-Net runs; diffusers lists the middle last


def cross_attention(unet: Any) -> list[str]:
    """Names of the layers of cross-attention, as they run. Raises `ParameterError` where keys and values are fused, or there is none."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    found = [name for name in names if unet.get_submodule(name).is_cross_attention]
    if any(unet.get_submodule(name).fused_projections for name in found):
        raise ParameterError("the U-Net's projections are fused: call unfuse_qkv_projections() before a concept of this kind is put in")
    if not found:
        raise ParameterError("the U-Net has no layer of cross-attention, so there is nothing that a word is read by")
    return sorted(found, key=lambda name: RUNS.index(name.partition(".")[0]))


@dataclass(frozen=True, eq=False)
class Now:
    """What layers read in this pass of the U-Net: row `rows[i]` of the batch reads `keys[which[i]]` (layers, length, width); None, all."""

    keys: torch.Tensor
    values: torch.Tensor
    rows: torch.Tensor | None = None
    which: torch.Tensor | None = None


class Readers:
    """The hooks in one pipeline and what they share.

    Attributes
    ----------
    networks : with how many hidden units they keep, by word. known : prompts, with what stands for them in a batch.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.names = cross_attention(pipeline.unet)
        self.networks: dict[str, tuple[Network, int | None]] = {}
        self.now: Now | None = None
        self._taught = False
        self.forget()
        unet = pipeline.unet
        self._hooks = [unet.register_forward_pre_hook(self._before, with_kwargs=True)]
        for number, name in enumerate(self.names):
            layer = unet.get_submodule(name)
            self._hooks += [
                layer.to_k.register_forward_pre_hook(lambda module, args, i=number: self._read(i, args, "keys")),
                layer.to_v.register_forward_pre_hook(lambda module, args, i=number: self._read(i, args, "values")),
            ]

    def forget(self) -> None:
        """Know no prompt: networks have changed."""
        self.known: dict[str, tuple[Reading, torch.Tensor]] = {}
        self._readings: dict[str, Reading] = {}
        self._kept: dict[tuple[str, float], tuple[torch.Tensor, torch.Tensor]] = {}
        self._size = 0
        self._seen: tuple[torch.Tensor, int, list[Reading | None]] | None = None
        self.now, self._taught = None, False

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def reading(self, prompt: str) -> Reading:
        """A prompt as it enters the towers, read once."""
        if prompt not in self._readings:
            self._readings[prompt] = read(self.pipeline, prompt, list(self.networks))
        return self._readings[prompt]

    @torch.no_grad()
    def conditioned(self, prompts: Sequence[str], context: Conditioning) -> Conditioning:
        """`context` with rows by which these prompts are known again in a batch: what a layer in the middle reads, half way.

        Raises `ParameterError` where another concept has changed the context already: layers would not see that.
        """
        marks = []
        for prompt, given in zip(prompts, context.embeds, strict=True):
            if prompt not in self.known:
                reading, mark = self.reading(prompt), given
                if reading.words:
                    half = float(next(iter(self.networks.values()))[0].times // 2)
                    mark = self.at([(reading, half)])[0][0][len(self.names) // 2].to(given)
                self.known[prompt] = reading, mark
            reading, mark = self.known[prompt]
            near = 1e-4 if given.dtype in (torch.float32, torch.float64) else 3e-2
            plain = reading.plain.embeds[0]
            if not any(given.shape == one.shape and torch.allclose(given, one, atol=near, rtol=near) for one in (plain, mark)):
                words = " and ".join(reading.words or self.networks)
                raise ParameterError(f"{prompt!r}: another concept changes what the U-Net reads of it: it cannot stand beside {words}")
            marks.append(mark)
        self._seen = None
        return context.with_embeds(torch.stack(marks))

    def teach(self, prompts: Sequence[str], t: torch.Tensor, generator: torch.Generator) -> Conditioning:
        """What the next pass of the U-Net reads, a prompt and a time (n,) for each row of its batch, with gradients to the networks."""
        readings = [self.reading(prompt) for prompt in prompts]
        vectors = {word: net(t, net.cut(len(t), generator)) for word, (net, _) in self.networks.items()}
        self.now, self._taught = Now(*contexts(self.pipeline, readings, vectors)), True
        plain = [one.plain for one in readings]
        pooled = [one.pooled for one in plain if one.pooled is not None]
        return Conditioning(torch.cat([one.embeds for one in plain]), torch.cat(pooled) if pooled else None)

    def at(self, asked: Sequence[tuple[Reading, float]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Keys and values (layers, length, width) of prompts at times, from what is kept or in one pass of the towers."""
        found = {(one.prompt, t): self._kept.get((one.prompt, t)) for one, t in asked}
        missing = list({(one.prompt, t): (one, t) for one, t in asked if found[one.prompt, t] is None}.values())
        if missing:
            times = torch.tensor([t for _, t in missing], device=missing[0][0].plain.embeds.device)
            vectors: dict[str, Vectors] = {word: net(times, keep) for word, (net, keep) in self.networks.items()}
            keys, values = contexts(self.pipeline, [one for one, _ in missing], vectors)
            for i, (one, t) in enumerate(missing):
                pair = found[one.prompt, t] = keys[i], values[i]
                size = sum(part.numel() * part.element_size() for part in pair)
                if self._size + size <= KEPT:
                    self._kept[one.prompt, t] = pair
                    self._size += size
        pairs = [found[one.prompt, t] for one, t in asked]
        return [pair[0] for pair in pairs if pair], [pair[1] for pair in pairs if pair]

    def _before(self, unet: Any, args: Any, kwargs: Any) -> None:
        """Before the U-Net runs: which rows of its batch are prompts with the words, and what its layers read of them at this time."""
        if self._taught:
            return
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        given = args[2] if len(args) > 2 else kwargs["encoder_hidden_states"]
        readings = self._recognized(given)
        times = torch.as_tensor(timestep).flatten().expand(len(given)).tolist()
        pairs = [(row, (one, float(t))) for row, (one, t) in enumerate(zip(readings, times, strict=True)) if one is not None and one.words]
        if not pairs:
            self.now = None
            return
        places = {(one.prompt, t): (one, t) for _, (one, t) in pairs}
        order = {key: number for number, key in enumerate(places)}
        with torch.no_grad():
            keys, values = (torch.stack(part) for part in self.at(list(places.values())))
        rows = torch.tensor([row for row, _ in pairs], device=given.device)
        which = torch.tensor([order[one.prompt, t] for _, (one, t) in pairs], device=given.device)
        self.now = Now(keys, values, rows, which)

    def _recognized(self, given: torch.Tensor) -> list[Reading | None]:
        """The prompt of each row of a batch. Raises `ParameterError` where none is known: no layer would read its own."""
        version = 0 if given.is_inference() else given._version
        if self._seen is not None and self._seen[0] is given and self._seen[1] == version:
            return self._seen[2]
        known = [(reading, mark.to(given)) for reading, mark in self.known.values()]
        found = [next((one for one, mark in known if torch.equal(row, mark)), None) for row in given]
        if not any(one is not None for one in found):
            words = " and ".join(self.networks)
            raise ParameterError(
                f"{words}: no prompt is as `context_of` gave it: what changes prompts behind it (--remove) cannot stand beside this concept"
            )
        self._seen = given, version, found
        return found

    def _read(self, number: int, args: tuple[Any, ...], part: str) -> tuple[Any, ...] | None:
        """What the layer `number` reads in place of the context it was given."""
        if self.now is None:
            return None
        now, read = self.now, getattr(self.now, part)
        if now.rows is None or now.which is None:
            return (read[:, number].to(args[0].dtype), *args[1:])
        context = args[0].clone()
        context[now.rows] = read[now.which, number].to(context.dtype)
        return (context, *args[1:])


_OPEN: "WeakKeyDictionary[Any, Readers]" = WeakKeyDictionary()  # by U-Net: several words share its hooks


@contextmanager
def reading_by(pipeline: Any, word: str, net: Network, keep: int | None = None) -> Iterator[Readers]:
    """The pipeline with a word's network in it. Raises `ParameterError` where it was learned for another number of layers."""
    layers = len(cross_attention(pipeline.unet))
    if net.layers != layers:
        raise ParameterError(f"{word} was learned for {net.layers} layers of cross-attention; this pipeline's U-Net has {layers}")
    readers = _OPEN.get(pipeline.unet) or _OPEN.setdefault(pipeline.unet, Readers(pipeline))
    readers.networks[word] = net, keep
    readers.forget()
    try:
        yield readers
    finally:
        del readers.networks[word]
        readers.forget()
        if not readers.networks:
            del _OPEN[pipeline.unet]
            readers.remove()


def readers_of(pipeline: Any, word: str) -> Readers:
    """The hooks that hold `word`. Raises `ParameterError` where it is not in the pipeline."""
    readers = _OPEN.get(pipeline.unet)
    if readers is None or word not in readers.networks:
        raise ParameterError(f"{word} is not in the pipeline: put it in by `together(pipeline, concepts)` first")
    return readers
