"""Two tokenizations of the same text laid over each other, byte by byte."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regraft.tokenizer.model import Tokenizer

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Overlay:
    """Old and new tokens of one batch of texts with their byte spans: `old_ids`, `new_ids` and the matching `starts` and `ends`."""

    old_ids: Ids
    old_starts: Ids
    old_ends: Ids
    new_ids: Ids
    new_starts: Ids
    new_ends: Ids

    def old_tokens_of(self, positions: Ids) -> tuple[Ids, Ids]:
        """For new tokens at `positions`: the range [first, last) of old tokens whose span lies inside theirs or contains it."""
        starts, ends = self.new_starts[positions], self.new_ends[positions]
        first = np.searchsorted(self.old_starts, starts, side="left")
        last = np.searchsorted(self.old_ends, ends, side="right")
        around = np.searchsorted(self.old_starts, starts, side="right") - 1
        contains = (last <= first) & (around >= 0) & (self.old_ends[np.maximum(around, 0)] >= ends)
        return np.where(contains, around, first), np.where(contains, around + 1, last)


def overlay(old: Tokenizer, new: Tokenizer, texts: Sequence[str]) -> Overlay:
    """Lay both tokenizations of `texts` over each other; special tokens are dropped.

    Spans are counted in bytes of the tokens themselves where both tokenizations spell the same bytes (exact for byte-level models, where
    several tokens share one character), and in characters of the text otherwise.
    """
    parts: list[tuple[Ids, ...]] = []
    old_surfaces, new_surfaces = _Surfaces(old), _Surfaces(new)
    base = 0
    for text, old_encoding, new_encoding in zip(texts, _encode(old, texts), _encode(new, texts), strict=True):
        old_side, new_side = _byte_spans(old_surfaces, old_encoding.ids), _byte_spans(new_surfaces, new_encoding.ids)
        if old_side[3] != new_side[3]:
            old_side, new_side = _character_spans(old_encoding), _character_spans(new_encoding)
        parts.append(tuple(a + (base if i % 3 else 0) for i, a in enumerate((*old_side[:3], *new_side[:3]))))
        base += max(len(old_side[3]), len(text)) + 1
    if not parts:
        return Overlay(*(np.zeros(0, dtype=np.int64) for _ in range(6)))
    return Overlay(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def batches(texts: Sequence[str], characters: int = 1 << 20) -> Iterator[list[str]]:
    """Texts in runs of about `characters` characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list:  # type: ignore[type-arg]  # tokenizers.Encoding
    encodings: list = tokenizer.backend.encode_batch(list(texts), add_special_tokens=False)  # type: ignore[type-arg]
    return encodings


class _Surfaces(dict[int, bytes]):
    """The bytes that tokens stand for, each asked of the tokenizer once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> bytes:
        self[token] = surface = self._tokenizer.surface(token)
        return surface


def _byte_spans(known: _Surfaces, ids: Sequence[int]) -> tuple[Ids, Ids, Ids, bytes]:
    surfaces = [known[i] for i in ids]
    ends = np.cumsum([len(s) for s in surfaces], dtype=np.int64)
    starts = np.concatenate([np.zeros(min(1, len(ends)), dtype=np.int64), ends[:-1]])
    return np.array(ids, dtype=np.int64), starts, ends, b"".join(surfaces)


def _character_spans(encoding) -> tuple[Ids, Ids, Ids, bytes]:  # type: ignore[no-untyped-def]  # tokenizers.Encoding
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    return np.array(encoding.ids, dtype=np.int64), offsets[:, 0], offsets[:, 1], b""
