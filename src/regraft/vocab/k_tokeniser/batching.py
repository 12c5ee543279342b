"""Tokens of several texts as one batch: special tokens, truncation and padding that treat ids, masks, offsets and word ids alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers import BatchEncoding

from regraft.vocab.k_tokeniser.cutting import Cut, Offsets
from regraft.vocab.tokenizer import Tokenizer

if TYPE_CHECKING:
    from regraft.vocab.k_tokeniser.tokeniser import KTokeniser

NOWHERE = (0, 0)


@dataclass
class Row:
    """One text of a batch. All lists have one entry a token; a special or padding token belongs to no word."""

    ids: list[int]
    offsets: Offsets
    words: list[int | None]
    types: list[int]
    special: list[int]
    attention: list[int]

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
    """Special tokens before and behind a text, and the type ids of the three parts."""

    before: list[int] = field(default_factory=list)
    behind: list[int] = field(default_factory=list)
    type_id: int = 0

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Layout":
        """Seen from what the post-processor makes of one letter."""
        probe = tokenizer.backend.encode("a")
        inside = [i for i, mask in enumerate(probe.special_tokens_mask) if not mask] or [0]
        return cls(probe.ids[: inside[0]], probe.ids[inside[-1] + 1 :], probe.type_ids[inside[0]] if probe.type_ids else 0)

    @property
    def size(self) -> int:
        return len(self.before) + len(self.behind)

    def wrap(self, cut: Cut, limit: int | None, from_left: bool = False) -> Row:
        """The text with its special tokens, in at most `limit` tokens; what is too much goes at the end, or at the beginning."""
        room = len(cut.ids) if limit is None else min(len(cut.ids), limit - self.size)
        kept = slice(len(cut.ids) - room, None) if from_left else slice(0, room)
        ids = [*self.before, *cut.ids[kept], *self.behind]
        before, behind = len(self.before), len(self.behind)
        return Row(
            ids,
            [*[NOWHERE] * before, *cut.offsets[kept], *[NOWHERE] * behind],
            [*[None] * before, *cut.words[kept], *[None] * behind],
            [self.type_id] * len(ids),
            [1] * before + [0] * room + [1] * behind,
            [1] * len(ids),
        )


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


class KEncoding(BatchEncoding):
    """A `BatchEncoding` that knows the word and the piece of each token."""

    rows: list[Row]
    owner: "KTokeniser"

    @classmethod
    def of(cls, rows: list[Row], names: Sequence[str], owner: "KTokeniser", *, single: bool, return_tensors: str | None) -> "KEncoding":
        """The columns `names` of `rows`; of a single text without tensors, flat lists."""
        flat = single and return_tensors is None
        data = {name: rows[0].column(name) if flat else [row.column(name) for row in rows] for name in names}
        found = cls(data, tensor_type=return_tensors)
        found.rows = rows
        found.owner = owner
        return found

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The word of each token of one text, None for special and padding tokens."""
        return self.rows[batch_index].words

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The pieces of one text as the vocabulary writes them."""
        return [self.owner.knowledge.tokenizer.pieces[i] for i in self.rows[batch_index].ids]
