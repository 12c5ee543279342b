"""Rows behind the text tower: they take the place of what the tower says, at the word, at the prompt's end, or of the whole prompt.

The tower has not read them, so words beside the concept never saw it, and no text says it.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from regraft.concepts.concept import Concept
from regraft.concepts.host.pipeline import Conditioning, content, pieces, spelled, towers
from regraft.concepts.host.words import Rows, rows_of, slots
from regraft.errors import CheckpointError, ParameterError

Place = Literal["slot", "full", "tail"]
FILE = "output_rows.safetensors"
NEUTRAL, ROWS, MASK, SHIFT, PHRASE, POOLED = "neutral ", "rows", "mask", "pooled_shift", "prompt_embeds", "pooled_prompt_embeds"


def places(pipeline: Any, prompts: Sequence[str], word: str, place: Place, count: int) -> torch.Tensor:
    """Which of `count` rows stands where in each prompt: (n, length), -1 where the tower's own stays.

    Raises `ParameterError`: a prompt without the word, or with words where the tail belongs.
    """
    tower = towers(pipeline)[0]
    length = len(pieces(pipeline, prompts[0], tower))
    found = torch.full((len(prompts), length), -1)
    for row, prompt in enumerate(prompts):
        filled = slots(pipeline, prompt, word)
        if place == "slot":
            found[row, filled] = torch.arange(len(filled)) % count
        elif place == "full":
            found[row] = torch.arange(length)
        elif content(pipeline, prompt, tower) > length - count:
            raise ParameterError(f"{prompt!r} fills places that the last {count} rows of {word} need: give a shorter prompt")
        else:
            found[row, -count:] = torch.arange(count)
    return found


def overwritten(embeds: torch.Tensor, where: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`embeds` (n, length, width) with `rows` (k, width) at the places that `where` (n, length) gives them; gradients reach the rows."""
    put = rows.to(embeds)[where.clamp(min=0)]
    return torch.where((where >= 0)[..., None], put, embeds)


def neutral_rows(pipeline: Any, init: str, count: int | None = None) -> dict[str, torch.Tensor]:
    """Input rows of the known phrase that stands at the word; one known word is repeated where `count` pieces are asked for."""
    rows = rows_of(pipeline, init)
    if count is None or len(next(iter(rows.values()))) == count:
        return rows
    return {key: value.expand(count, -1).clone() for key, value in rows_of(pipeline, init, 1).items()}


def encoder_hash(pipeline: Any) -> str:
    """Of the text towers and their tokenizers: vocabularies, shapes, and the beginnings of all weights at half precision."""
    digest = hashlib.sha256()
    for tower in towers(pipeline):
        tokenizer = tower.tokenizer(pipeline)
        later = {token.content for token in tokenizer.added_tokens_decoder.values() if not token.special}  # words that were put in
        known = {piece: number for piece, number in tokenizer.get_vocab().items() if piece not in later}
        digest.update(json.dumps(sorted(known.items())).encode())
        for name, value in sorted(tower.encoder.state_dict().items()):
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(value.detach().flatten()[:64].half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class OutputRows(Concept):
    """Searched rows.

    Attributes
    ----------
    rows : (k, width). place : where they stand. init : the phrase whose pieces the tower reads at the word.
    neutral : its input rows by tower. phrase : the prompt that was searched with, ``{}`` at the word.
    context : of that prompt with the rows in it, (1, length, width). mask : places of that prompt where they stand, (length,).
    shift : added to XL's pooled vector, None where it was not searched.
    scale : of rows at the tail, in other prompts than `phrase`. encoder : hash of the towers.
    """

    kind = "output-rows"
    word: str
    rows: torch.Tensor
    place: Place
    init: str
    neutral: Rows
    phrase: str
    context: Conditioning
    mask: torch.Tensor
    shift: torch.Tensor | None = None
    scale: float = 1.0
    encoder: str = ""

    def words(self) -> dict[str, Rows]:
        """The word stands in a prompt as its `init`, so that the tower reads something known there."""
        return {self.word: self.neutral}

    def installed(self, pipeline: Any) -> AbstractContextManager[Any]:
        """Nothing of the pipeline changes; a warning where its towers are not those that the rows were searched beside."""
        if self.encoder and self.encoder != encoder_hash(pipeline):
            warnings.warn(f"{self.word} was learned beside other text towers of the same width: look at what it draws", stacklevel=2)
        return super().installed(pipeline)

    def conditioned(self, pipeline: Any, prompts: Sequence[str], context: Conditioning) -> Conditioning:
        """`context` with the rows in it, for each prompt that holds the word; others stay. Raises `ParameterError`: another pipeline's."""
        self._check(pipeline, context)
        meant = [row for row, prompt in enumerate(prompts) if self._holds(pipeline, prompt)]
        if not meant:
            return context
        embeds, pooled = context.embeds.clone(), None if context.pooled is None else context.pooled.clone()
        where = places(pipeline, [prompts[row] for row in meant], self.word, self.place, len(self.rows)).to(embeds.device)
        for row, place in zip(meant, where, strict=True):
            scale = self.scale if self.place == "tail" and prompts[row] != self.phrase.replace("{}", self.word) else 1.0
            embeds[row] = overwritten(embeds[row : row + 1], place[None], self.rows * scale)[0]
            if pooled is not None and self.place == "full":
                pooled[row] = self.context.pooled[0].to(pooled)  # type: ignore[index]
            elif pooled is not None and self.shift is not None:
                pooled[row] += self.shift.to(pooled)
        return Conditioning(embeds, pooled)

    def _holds(self, pipeline: Any, prompt: str) -> bool:
        tower = towers(pipeline)[0]
        told = pipeline.maybe_convert_prompt(self.word, tower.tokenizer(pipeline))
        first = spelled(pipeline, told, tower)[0]
        return first in pieces(pipeline, prompt, tower)

    def _check(self, pipeline: Any, context: Conditioning) -> None:
        length, width = context.embeds.shape[1:]
        if self.rows.shape[1] != width:
            raise ParameterError(
                f"{self.word} has rows of width {self.rows.shape[1]}; the pipeline's U-Net reads {width}: it was learned for another one"
            )
        if self.place == "full" and len(self.rows) != length:
            raise ParameterError(
                f"{self.word} has {len(self.rows)} rows, a prompt of this pipeline {length}: it was learned for another one"
            )

    def write(self, folder: Path) -> None:
        """Rows, mask and the neutral word; `prompt_embeds` of the phrase is what `pipeline(prompt_embeds=...)` takes as it is."""
        tensors = {ROWS: self.rows, MASK: self.mask, PHRASE: self.context.embeds}
        tensors |= {NEUTRAL + key: rows for key, rows in self.neutral.items()}
        if self.context.pooled is not None:
            tensors[POOLED] = self.context.pooled
        if self.shift is not None:
            tensors[SHIFT] = self.shift
        floats = {key: value.detach().float().cpu().contiguous().clone() for key, value in tensors.items()}
        save_file({**floats, MASK: self.mask.cpu().contiguous()}, folder / FILE, metadata={"format": "pt", "word": self.word})

    def facts(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("place", "init", "phrase", "scale", "encoder")}

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> "OutputRows":
        try:
            tensors = load_file(folder / FILE)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder / FILE}: not a safetensors file that can be read ({error})") from None
        if any(value.is_floating_point() and not bool(value.isfinite().all()) for value in tensors.values()):
            raise CheckpointError(f"{folder / FILE}: rows that are not finite")
        neutral = {key.removeprefix(NEUTRAL): value for key, value in tensors.items() if key.startswith(NEUTRAL)}
        context = Conditioning(tensors[PHRASE], tensors.get(POOLED))
        given = {key: facts[key] for key in ("word", "place", "init", "phrase", "scale", "encoder")}
        return cls(rows=tensors[ROWS], neutral=neutral, context=context, mask=tensors[MASK], shift=tensors.get(SHIFT), **given)
