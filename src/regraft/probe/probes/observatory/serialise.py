"""A table as ids: one segment a column or a row, behind the tokenizer's own marker, with the place of every cell's tokens.

Enters: a `Table` and a `transformers` tokenizer. Leaves: ids, where each
segment's marker and tokens stand, and of which cell each token is.

With a CLS token: ``[CLS] segment_1 [CLS] segment_2 ... [SEP]``, special ids never by way of text (as text they would be unknown words to
RoBERTa). Without one, as in decoders and T5, segments are parted by a line break, what the tokenizer itself puts around a text stands
around all, and a segment's vector is the mean over its tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regraft.probe.probes.observatory.tables import Table

Level = Literal["column", "row", "cell", "table"]
SCHEME = 1  # of serialisation: vectors that were kept under another one are not taken
LEVELS: tuple[Level, ...] = ("column", "row", "cell", "table")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Serialised:
    """`ids` of a table; per segment the position of its marker (none: `markers` is empty) and its tokens' `spans`; `cut` tokens.

    `cells` : per segment, for each of its tokens the number of the piece it is of (0: the header), -1 for a space between two.
    """

    ids: list[int]
    markers: list[int]
    spans: list[tuple[int, int]]
    cells: list[Ints]
    cut: int = 0


class Serialiser:
    """Tables as ids of one tokenizer. What looks like a special token in a cell is text."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    @cached_property
    def marker(self) -> int | None:
        """The id before each segment."""
        found: int | None = self.tokenizer.cls_token_id
        return found

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """Special ids before and after everything.

        Without a CLS a BOS comes first, where there is one: a decoder's first token sees nothing before it, and should be no cell's.
        """
        if self.marker is not None:
            end = self.tokenizer.sep_token_id
            return [], [] if end is None else [end]
        encoded = self.tokenizer("a", return_special_tokens_mask=True)
        mask = encoded["special_tokens_mask"]
        first, last = mask.index(0), len(mask) - mask[::-1].index(0)
        before, after = list(encoded["input_ids"][:first]), list(encoded["input_ids"][last:])
        start = self.tokenizer.bos_token_id
        return before or ([] if start is None else [start]), after

    @cached_property
    def between(self) -> list[int]:
        """Ids between two segments that have no marker."""
        return [] if self.marker is not None else list(self.tokenizer("\n", add_special_tokens=False)["input_ids"])

    def serialise(self, table: Table, level: Level) -> Serialised:
        """Columns for the levels column and cell, rows for row and table; the table has one marker for all."""
        segments = column_pieces(table) if level in ("column", "cell") else row_pieces(table)
        texts = self._encoded(segments)
        excess = self._length([len(ids) for ids, _ in texts], level) - self.max_tokens
        if excess > 0:
            texts = _shortened(texts, excess)
        before, after = self.frame
        ids, markers, spans = list(before), [], []
        for number, (tokens, _) in enumerate(texts):
            if number and level != "table":
                ids += self.between
            if self.marker is not None and (level != "table" or not number):
                markers.append(len(ids))
                ids.append(self.marker)
            spans.append((len(ids), len(ids) + len(tokens)))
            ids += tokens
        return Serialised(ids + after, markers, spans, [cells for _, cells in texts], max(0, excess))

    def length(self, table: Table, level: Level) -> int:
        """Ids that `serialise` would need if there was no limit."""
        segments = column_pieces(table) if level in ("column", "cell") else row_pieces(table)
        return self._length([len(ids) for ids, _ in self._encoded(segments)], level)

    def fit_rows(self, table: Table, level: Level) -> int:
        """How many leading rows fit, by bisection; 0 if not even one does."""
        least = self.marker is not None and level in ("column", "cell")
        cells = list(accumulate(sum(bool(cell) for cell in row) for row in table.rows))  # each takes at least one token
        low, high = 0, int(np.searchsorted(cells, self.max_tokens, side="right"))
        if not high or (least and table.width > self.max_tokens):
            return 0
        if self.length(table.head(high), level) <= self.max_tokens:
            return high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.length(table.head(middle), level) <= self.max_tokens else (low, middle)
        return low

    def shorten(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Each text up to its first `tokens` tokens."""
        if not texts:
            return []
        offsets = self._offsets(texts)["offset_mapping"]
        return [text if len(ends) <= tokens else text[: ends[tokens - 1][1]] for text, ends in zip(texts, offsets, strict=True)]

    def _offsets(self, texts: Sequence[str]) -> Any:
        return self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, return_attention_mask=False,
            verbose=False,
        )  # fmt: skip

    def _length(self, lengths: list[int], level: Level) -> int:
        before, after = self.frame
        markers = 0 if self.marker is None else 1 if level == "table" else len(lengths)
        gaps = 0 if level == "table" else len(self.between) * (len(lengths) - 1)
        return len(before) + len(after) + markers + gaps + sum(lengths)

    def _encoded(self, segments: list[list[str]]) -> list[tuple[list[int], Ints]]:
        """Ids of each segment, and which piece each id is of."""
        if not segments:
            return []
        texts = [" ".join(piece for piece in pieces if piece) for pieces in segments]
        encoded = self._offsets(texts)
        found = zip(encoded["input_ids"], encoded["offset_mapping"], segments, strict=True)
        return [(list(ids), _owners(offsets, pieces)) for ids, offsets, pieces in found]


def column_pieces(table: Table) -> list[list[str]]:
    """Per column its header and cells."""
    return [[name, *cells] for name, cells in zip(table.header, table.columns, strict=True)]


def row_pieces(table: Table) -> list[list[str]]:
    """Per row header and cell in turn."""
    return [[piece for pair in zip(table.header, row, strict=True) for piece in pair] for row in table.rows]


def _owners(offsets: Sequence[tuple[int, int]], pieces: list[str]) -> Ints:
    """The piece that each token's last character is of: byte-level tokens begin with the space before a word."""
    if not offsets:
        return np.zeros(0, dtype=np.int64)
    there = [number for number, piece in enumerate(pieces) if piece]
    ends = np.fromiter(accumulate(len(pieces[n]) + 1 for n in there), dtype=np.int64)  # one past the space behind each
    last = np.array([max(stop, start + 1) - 1 for start, stop in offsets], dtype=np.int64)
    place = np.minimum(np.searchsorted(ends, last, side="right"), len(there) - 1)
    return np.where(last == ends[place] - 1, -1, np.array(there, dtype=np.int64)[place])


def _shortened(texts: list[tuple[list[int], Ints]], excess: int) -> list[tuple[list[int], Ints]]:
    """The longest segments without their last tokens, `excess` in all: what a permuted table may have more than the original."""
    lengths = [len(ids) for ids, _ in texts]
    for _ in range(min(excess, sum(lengths))):
        lengths[int(np.argmax(lengths))] -= 1
    return [(ids[:n], cells[:n]) for (ids, cells), n in zip(texts, lengths, strict=True)]
