"""Passages as two tokenizers cut them, paired where both have a token that ends at the same byte: what one model can teach itself.

Enters: two tokenizations of documents. Leaves: `Passage`s, for which the old tokenizer's hidden states (the teacher) and the new one's (the
student) can be compared position by position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regraft.tokenizer.alignment import batches, overlay
from regraft.vocab.initializer import Target

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Passage:
    """A stretch of text: `old` and `new` ids, and the positions `old_at`, `new_at` (same length) of tokens that end at the same byte."""

    old: Ids
    new: Ids
    old_at: Ids
    new_at: Ids


def passages(target: Target, texts: Sequence[str], length: int) -> Iterator[Passage]:
    """Consecutive passages of about `length` old tokens, each cut where both tokenizations have a border."""
    for batch in batches(texts):
        both = overlay(target.old_tokenizer, target.tokenizer, batch)
        _, old_at, new_at = np.intersect1d(both.old_ends, both.new_ends, return_indices=True)
        # a border is a shared end behind which both go on at the same byte: not the gap between two documents
        documents = np.flatnonzero(both.old_starts[1:] > both.old_ends[:-1]) + 1
        if not len(old_at):
            continue
        start, marks = 0, set(np.searchsorted(old_at, documents, side="left").tolist())
        for position in range(1, len(old_at) + 1):
            full = old_at[position - 1] - (old_at[start - 1] if start else -1) >= length
            if full or position in marks or position == len(old_at):
                yield _cut(both.old_ids, both.new_ids, old_at, new_at, start, position)
                start = position


def _cut(old_ids: Ids, new_ids: Ids, old_at: Ids, new_at: Ids, start: int, stop: int) -> Passage:
    first_old, first_new = (int(old_at[start - 1]) + 1, int(new_at[start - 1]) + 1) if start else (0, 0)
    old, new = old_ids[first_old : old_at[stop - 1] + 1], new_ids[first_new : new_at[stop - 1] + 1]
    return Passage(old, new, old_at[start:stop] - first_old, new_at[start:stop] - first_new)


def choose(found: Iterator[Passage], wanted: Ids, each: int, rng: np.random.Generator, most: int) -> list[Passage]:
    """Passages that show a wanted token fewer than `each` of those before it have shown; at most `most`, in random order.

    One passage serves every wanted token in it.
    """
    seen: dict[int, int] = dict.fromkeys(wanted.tolist(), 0)
    chosen: list[Passage] = []
    for passage in found:
        tokens = {int(t) for t in np.unique(passage.new)} & seen.keys()
        if any(seen[token] < each for token in tokens):
            chosen.append(passage)
            for token in tokens:
                seen[token] += 1
            if len(chosen) >= most:
                break
    order = rng.permutation(len(chosen))
    return [chosen[i] for i in order]
