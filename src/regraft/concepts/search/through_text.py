"""What others search: input rows, through the text tower. Prompt tuning (CoOp), textual inversion of class words, offsets of whole phrases.

They are baselines of the search behind the tower: `task.through(tower)` is the same task, loss and examples, with the tower in every step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regraft.concepts.kinds.output_rows import overwritten
from regraft.concepts.search.class_rows import clip_of
from regraft.errors import ParameterError

Tower = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # ids (n, length) and their mask, to rows (n, width)


def text_tower(model: Any) -> tuple[Tower, nn.Module]:
    """The text tower of a CLIP, CLIPSeg or OWL-ViT, and its table of input rows."""
    clip = clip_of(model)
    return lambda ids, mask: clip.get_text_features(ids, mask).pooler_output, clip.text_model.get_input_embeddings()


@dataclass(frozen=True, eq=False)
class ThroughText:
    """Rows of classes from input rows: `self(rows)` is (n, width).

    Attributes
    ----------
    tower : see `text_tower`. table : its module of input rows. ids, attention : (n, length).
    where : (n, length) the searched row of each place, -1 for none. start : (rows, width) what they start from.
    """

    tower: Tower
    table: nn.Module
    ids: torch.Tensor
    attention: torch.Tensor
    where: torch.Tensor
    start: torch.Tensor

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        hook = self.table.register_forward_hook(lambda module, args, looked_up: overwritten(looked_up, self.where, rows))
        try:
            return self.tower(self.ids, self.attention)
        finally:
            hook.remove()

    @classmethod
    def context(
        cls, tower: Tower, table: Any, tokenizer: Any, names: Sequence[str], start: str = "a photo of a", *, shared: bool = True
    ) -> "ThroughText":
        """CoOp: the words before a class's name, from those of `start`; shared by all classes, or each class's own."""
        told = [f"{start} {name}" for name in names]
        return cls._made(tower, table, tokenizer, told, [range(_size(tokenizer, start))] * len(told), shared=shared)

    @classmethod
    def class_words(cls, tower: Tower, table: Any, tokenizer: Any, names: Sequence[str], phrase: str = "a photo of a {}") -> "ThroughText":
        """Textual inversion: the first piece of each class's name, a row for each class."""
        first, told = _size(tokenizer, phrase.partition("{}")[0].strip()), [phrase.format(name) for name in names]
        return cls._made(tower, table, tokenizer, told, [range(first, first + 1)] * len(told), shared=False)

    @classmethod
    def phrases(cls, tower: Tower, table: Any, tokenizer: Any, names: Sequence[str], phrase: str = "a photo of a {}") -> "ThroughText":
        """All words of each class's phrase, as M2C moves them by offsets that start from zero."""
        told = [phrase.format(name) for name in names]
        return cls._made(tower, table, tokenizer, told, [range(_size(tokenizer, text)) for text in told], shared=False)

    @classmethod
    def _made(cls, tower: Tower, table: Any, tokenizer: Any, told: list[str], moving: Sequence[range], *, shared: bool) -> "ThroughText":
        """Of texts whose pieces `moving` are searched, the same rows in all of them or rows of each."""
        given = tokenizer(told, padding="max_length", truncation=True, return_tensors="pt")
        ids, attention = given["input_ids"].to(table.weight.device), given["attention_mask"].to(table.weight.device)
        where, rows, count = torch.full_like(ids, -1), [], 0
        for row, (text, pieces) in enumerate(zip(told, moving, strict=True)):
            places = [1 + piece for piece in pieces]  # behind the start
            if not places or places[-1] >= ids.shape[1] - 1:
                raise ParameterError(f"{text!r} is longer than the text tower reads, or holds no word to search for")
            first = 0 if shared else count
            where[row, places] = torch.arange(first, first + len(places), device=ids.device)
            if first == count:
                rows.append(table.weight.detach()[ids[row, places]])
                count += len(places)
        return cls(tower, table, ids, attention, where, torch.cat(rows))


def _size(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
