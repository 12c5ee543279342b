"""Tokens of several texts as one batch: special tokens, truncation and padding that treat ids, masks, offsets and word ids alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import BatchEncoding

from regraft.errors import ParameterError
from regraft.tokenizer import Tokenizer
from regraft.vocab.k_tokeniser.cutting import Cut, Offsets
from regraft.vocab.k_tokeniser.knowledge import Knowledge

NOWHERE = (0, 0)
STRATEGIES = ("longest_first", "only_first", "only_second", "do_not_truncate")


class Owner(Protocol):
    """What a batch asks of the tokenizer that made it."""

    @property
    def knowledge(self) -> Knowledge: ...


@dataclass
class Row:
    """One text of a batch. All lists have one entry a token; a special or padding token belongs to no word."""

    ids: list[int]
    offsets: Offsets
    words: list[int | None]
    types: list[int]
    special: list[int]
    attention: list[int]
    sequences: list[int | None]

    def extend(
        self,
        ids: list[int],
        offsets: Offsets,
        words: Sequence[int | None],
        types: list[int],
        special: list[int],
        sequences: Sequence[int | None],
    ) -> None:
        """Append tokens."""
        self.ids += ids
        self.offsets += offsets
        self.words += words
        self.types += types
        self.special += special
        self.attention += [1] * len(ids)
        self.sequences += sequences

    def column(self, name: str) -> list[Any]:
        """The list that `transformers` calls `name`."""
        columns: dict[str, list[Any]] = {
            "input_ids": self.ids,
            "token_type_ids": self.types,
            "attention_mask": self.attention,
            "offset_mapping": self.offsets,
            "special_tokens_mask": self.special,
        }
        return columns[name]


@dataclass(frozen=True)
class Layout:
    """Special tokens around one text or a pair: `specials` holds what stands before, between and behind; `types` the type ids of each part.

    `special_types` are those of the special tokens, as the base tokenizer's post-processor gives them.
    """

    specials: tuple[tuple[int, ...], ...] = ((), ())
    special_types: tuple[tuple[int, ...], ...] = ((), ())
    types: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, tokenizer: Tokenizer, pair: bool = False, special: bool = True) -> "Layout":
        """Seen from what the post-processor makes of one letter, or of two."""
        probe = tokenizer.backend.encode("a", "a" if pair else None, add_special_tokens=special)
        groups: list[list[int]] = [[]]
        group_types: list[list[int]] = [[]]
        types: list[int] = []
        parts = iter((0, 1) if pair else (0,))
        following = next(parts, None)
        for token, kind, sequence, mask in zip(probe.ids, probe.type_ids, probe.sequence_ids, probe.special_tokens_mask, strict=True):
            if mask or sequence is None:
                groups[-1].append(token)
                group_types[-1].append(kind)
            elif sequence == following:
                types.append(kind)
                groups.append([])
                group_types.append([])
                following = next(parts, None)
        return cls(tuple(map(tuple, groups)), tuple(map(tuple, group_types)), tuple(types))

    @property
    def size(self) -> int:
        return sum(map(len, self.specials))

    @property
    def before(self) -> tuple[int, ...]:
        return self.specials[0]

    def wrap(self, *parts: Cut) -> Row:
        """The text, or both, with the special tokens."""
        row = Row([], [], [], [], [], [], [])
        self._add_special(row, 0)
        for place, cut in enumerate(parts):
            count = len(cut.ids)
            row.extend(cut.ids, cut.offsets, cut.words, [self.types[place]] * count, [0] * count, [place] * count)
            self._add_special(row, place + 1)
        return row

    def _add_special(self, row: Row, place: int) -> None:
        ids = list(self.specials[place])
        count = len(ids)
        row.extend(ids, [NOWHERE] * count, [None] * count, list(self.special_types[place]), [1] * count, [None] * count)


def shorten(cut: Cut, room: int, *, from_left: bool = False) -> Cut:
    """At most `room` tokens; what is too much goes at the end, or at the beginning."""
    spare = max(0, len(cut.ids) - room)
    kept = slice(spare, None) if from_left else slice(0, len(cut.ids) - spare)
    return Cut(cut.ids[kept], cut.offsets[kept], cut.words[kept])


def share_room(first: int, second: int, room: int, strategy: str) -> tuple[int, int]:
    """How many tokens each of two texts of `first` and `second` tokens may keep in `room`, as `tokenizers` shares it.

    "longest_first" lets a text that is shorter than half of the room stay whole, else gives each a half (the odd token to the longer).
    """
    if first + second <= room:
        return first, second
    if strategy == "only_first":
        return room - second, second
    if strategy == "only_second":
        return first, room - first
    small, large = min(first, second), max(first, second)
    large = small if small > room else max(small, room - small)
    if small + large > room:
        small = room // 2
        large = small + room % 2
    return (small, large) if first <= second else (large, small)


def fitted(parts: Sequence[Cut], room: int | None, strategy: str, *, from_left: bool = False) -> list[Cut]:
    """One text or two in at most `room` tokens. Raises `ParameterError` where the strategy is unknown or spares too long a text."""
    if strategy not in STRATEGIES:
        raise ParameterError(f"truncation={strategy!r}: choose True, False, {', '.join(STRATEGIES)}")
    if room is None or sum(len(cut.ids) for cut in parts) <= room:
        return list(parts)
    if len(parts) == 1:
        return [shorten(parts[0], room, from_left=from_left)]
    shares = share_room(len(parts[0].ids), len(parts[1].ids), room, strategy)
    if min(shares) < 0:
        raise ParameterError(f"truncation={strategy!r}: the other text alone is longer than max_length: use longest_first")
    return [shorten(cut, share, from_left=from_left) for cut, share in zip(parts, shares, strict=True)]


def windows(cut: Cut, room: int, stride: int, *, from_left: bool = False) -> list[Cut]:
    """The text in pieces of at most `room` tokens that overlap by `stride`; from the left, the last piece comes first."""
    count, step = len(cut.ids), room - stride
    if count <= room:
        return [cut]
    spans: list[tuple[int, int]] = []
    while not spans or spans[-1][1] < count:
        start = len(spans) * step
        spans.append((start, min(start + room, count)))
    if from_left:
        spans = [(count - stop, count - start) for start, stop in spans]
    return [Cut(cut.ids[a:b], cut.offsets[a:b], cut.words[a:b]) for a, b in spans]


def pad_rows(rows: Sequence[Row], size: int, token: int, type_id: int, *, left: bool) -> None:
    """Fill each row up to `size` tokens, in place."""
    for row in rows:
        more = size - len(row.ids)
        place = 0 if left else len(row.ids)
        row.ids[place:place] = [token] * more
        row.offsets[place:place] = [NOWHERE] * more
        row.words[place:place] = [None] * more
        row.types[place:place] = [type_id] * more
        row.special[place:place] = [1] * more
        row.attention[place:place] = [0] * more
        row.sequences[place:place] = [None] * more


class KEncoding(BatchEncoding):
    """A `BatchEncoding` that knows the word and the piece of each token."""

    rows: list[Row]
    owner: Owner

    @classmethod
    def of(
        cls,
        rows: list[Row],
        names: Sequence[str],
        owner: Owner,
        *,
        single: bool,
        return_tensors: str | None,
        more: Mapping[str, list[int]] | None = None,
    ) -> "KEncoding":
        """The columns `names` of `rows`, and `more`; of a single text without tensors, flat lists."""
        flat = single and return_tensors is None
        data = {name: rows[0].column(name) if flat else [row.column(name) for row in rows] for name in names}
        found = cls(data | dict(more or {}), tensor_type=return_tensors)
        found.rows = rows
        found.owner = owner
        return found

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The word of each token of one text, None for special and padding tokens."""
        return self.rows[batch_index].words

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """0 for tokens of the first text, 1 for those of its pair, None for special and padding tokens."""
        return self.rows[batch_index].sequences

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The pieces of one text as the vocabulary writes them."""
        return [self.owner.knowledge.tokenizer.pieces[i] for i in self.rows[batch_index].ids]
