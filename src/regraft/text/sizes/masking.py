"""Texts for a masked autoencoder: a window of each, its words numbered, and two nested sets of masked words.

Enters: texts. Leaves: ids and word numbers as tensors; ids with masks and where they are.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.errors import ParameterError
from regraft.language.model import special_ids

NO_WORD = -1  # of special tokens and padding


class Windows:
    """Texts as (batch, length) of ids, mask and word numbers; of a text that is too long a random window, new each time.

    Windows are drawn a batch ahead of training: a run that goes on after it was killed may read other ones.

    Raises `ParameterError` for a tokenizer that does not say which tokens are one word, or has no mask.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        if not getattr(tokenizer, "is_fast", False) or tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise ParameterError("masking whole words needs a tokenizer with [MASK] and [PAD] that numbers words (a fast one)")
        self.tokenizer = tokenizer
        self.before, self.after = special_ids(tokenizer)
        self.room = max_tokens - len(self.before) - len(self.after)
        if not self.before or self.room < 1:
            raise ParameterError("the tokenizer puts no [CLS] before a text: there is no vector to rebuild a text from")

    def __call__(self, texts: Sequence[str], **kwargs: Any) -> dict[str, Tensor]:
        """As a collator of sentence-transformers calls it."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        rows = [self._window(ids, encoded.word_ids(at)) for at, ids in enumerate(encoded["input_ids"])]
        longest = max(len(ids) for ids, _ in rows)

        def padded(lists: list[list[int]], value: int) -> Tensor:
            return torch.tensor([one + [value] * (longest - len(one)) for one in lists])

        return {
            "input_ids": padded([ids for ids, _ in rows], self.tokenizer.pad_token_id),
            "attention_mask": padded([[1] * len(ids) for ids, _ in rows], 0),
            "word_ids": padded([words for _, words in rows], NO_WORD),
        }

    def _window(self, ids: list[int], words: list[int | None]) -> tuple[list[int], list[int]]:
        start = int(torch.randint(len(ids) - self.room + 1, (1,))) if len(ids) > self.room else 0
        inside = slice(start, start + self.room)
        first, last = [NO_WORD] * len(self.before), [NO_WORD] * len(self.after)
        numbers = [NO_WORD if word is None else word for word in words[inside]]
        lowest = min((one for one in numbers if one != NO_WORD), default=0)
        numbers = [one if one == NO_WORD else one - lowest for one in numbers]
        return [*self.before, *ids[inside], *self.after], [*first, *numbers, *last]


def masked_words(words: Tensor, rates: Sequence[float]) -> list[Tensor]:
    """Which tokens (batch, length) are masked at each rate: whole words in one random order, until `rate` of the text's tokens are reached.

    The words of a lower rate are among those of a higher one; of every text at least one word is masked.
    """
    known = words != NO_WORD
    safe = words.clamp(min=0)
    counts = torch.zeros(len(words), int(safe.max()) + 1, device=words.device).scatter_add_(1, safe, known.float())
    key = torch.rand(counts.shape, device=words.device).masked_fill(counts == 0, 2.0)
    order = key.argsort(1)
    sorted_counts = counts.gather(1, order)
    before = sorted_counts.cumsum(1) - sorted_counts
    total = known.sum(1, keepdim=True)
    found = []
    for rate in rates:
        chosen = (before < (rate * total).round().clamp(min=1)) & (sorted_counts > 0)
        by_word = torch.zeros_like(chosen).scatter(1, order, chosen)
        found.append(by_word.gather(1, safe) & known)
    return found


def replaced(ids: Tensor, at: Tensor, mask_id: int, vocab_size: int) -> Tensor:
    """`ids` with [MASK] for 80 % of the tokens `at`, a random token for 10 %, themselves for 10 %."""
    chance = torch.rand(ids.shape, device=ids.device)
    noise = torch.randint(vocab_size, ids.shape, device=ids.device)
    return torch.where(at & (chance < 0.8), mask_id, torch.where(at & (chance >= 0.9), noise, ids))
