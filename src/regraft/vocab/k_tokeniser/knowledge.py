"""What a built K-Tokeniser knows: the pool of tokenizers (step E), the n-gram counts of the pieces, and the settings of its choices.

The pool is one vocabulary T_K, in which ids below `base_size` are the base tokenizer's and stay where they were; the tokenizer of a type
is the base vocabulary and that type's pieces. Segmentations of any of them are ids of T_K from the start.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import tokenizers
from tokenizers import models

from regraft.errors import TokenizerError
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.alphabet import to_stand_ins
from regraft.vocab.k_tokeniser.sufficient import DeltaPoint

KINDS = ("wordpiece", "byte-bpe")
UNKNOWN = "\U0010fffdunknown"  # what a matcher answers for a word it cannot spell; private use, so no piece is called so
CONTINUES = "##"  # marks candidates inside a word, whatever the base tokenizer's own marks are


@dataclass(frozen=True)
class SemanticType:
    """One semantic type: its pieces as ids of T_K (shared ones included), and what is said of it in reports.

    `figures` has counts and examples; `curve` the delta-sufficient sets of its candidates.
    """

    name: str
    ids: tuple[int, ...]
    figures: dict[str, Any] = field(default_factory=dict)
    curve: tuple[DeltaPoint, ...] = ()


@dataclass(frozen=True)
class Choices:
    """Settings of steps F and G; see `KTokeniserStart` for each."""

    h0_count: int = 1000
    phi: float = 1.0
    unit: Literal["sentence", "text"] = "sentence"
    lowercase: bool = True
    released: bool = False


@dataclass(frozen=True)
class Knowledge:
    """A pool of tokenizers with what chooses between them.

    Attributes
    ----------
    tokenizer : T_K, base vocabulary and the pieces of every type.
    base_size : ids below it are the base tokenizer's.
    base_merges : how many of the merges are the base tokenizer's (0 for WordPiece).
    types : in the order in which ties are broken.
    frequencies : characters of a piece -> its count in the union of the types' n-gram tables; absent ones count 1.
    total : TF, the sum of that union.
    """

    tokenizer: Tokenizer
    base_size: int
    base_merges: int
    types: tuple[SemanticType, ...]
    frequencies: dict[str, int]
    total: int
    choices: Choices = Choices()

    @cached_property
    def base(self) -> Tokenizer:
        """The base tokenizer T_b, as it was before any piece was added."""
        spec = self.tokenizer.editable()
        spec["model"]["vocab"] = {piece: i for piece, i in self.tokenizer.model_vocab.items() if i < self.base_size}
        if "merges" in spec["model"]:
            spec["model"]["merges"] = spec["model"]["merges"][: self.base_merges]
        return self.tokenizer.with_spec(spec)

    def matcher(self, ids: Iterable[int]) -> Any:
        """The model of a type's tokenizer: compiled greedy longest match over the base vocabulary and the pieces `ids`.

        For byte-level BPE it runs over the printable stand-ins of bytes, without a mark for pieces inside a word.
        """
        wanted = set(ids)
        vocab = {piece: i for piece, i in self.tokenizer.model_vocab.items() if i < self.base_size or i in wanted}
        for i in self.tokenizer.added:  # an added token is no way to spell a word
            vocab.pop(self.tokenizer.pieces[i], None)
        vocab[UNKNOWN] = self.unknown
        limit = self.tokenizer.model.get("max_input_chars_per_word", 100)
        return models.WordPiece(
            vocab, unk_token=UNKNOWN, max_input_chars_per_word=limit, continuing_subword_prefix=self.tokenizer.continuing_prefix
        )

    @property
    def unknown(self) -> int:
        """The id with which a matcher answers for a word it cannot spell; no token has it."""
        return self.tokenizer.vocab_size

    @cached_property
    def scores(self) -> list[int]:
        """G of each id of T_K: the count of its characters, 1 if absent. As released, pieces inside a word are never found."""
        tokenizer, found = self.tokenizer, [1] * self.tokenizer.vocab_size
        for i in tokenizer.pieces:
            if not (self.choices.released and continues(tokenizer, i)):
                found[i] = self.frequencies.get(characters(tokenizer, i), 1)
        return found

    @cached_property
    def new_types(self) -> dict[int, list[int]]:
        """New id -> the positions of the types that have it."""
        found: dict[int, list[int]] = {}
        for position, kind in enumerate(self.types):
            for i in kind.ids:
                found.setdefault(i, []).append(position)
        return found


def continues(tokenizer: Tokenizer, token: int) -> bool:
    """Whether a piece stands inside a word: it has the `##`, or, in byte-level BPE, lacks the leading space."""
    return tokenizer.continues_word(token) if tokenizer.algorithm == "wordpiece" else not tokenizer.surface(token).startswith(b" ")


def characters(tokenizer: Tokenizer, token: int) -> str:
    """A piece's characters as the n-gram tables have them: no `##`, no leading space; empty for a part of a character."""
    try:
        return tokenizer.surface(token).decode("utf-8").removeprefix(" ")
    except UnicodeDecodeError:
        return ""


def piece_string(tokenizer: Tokenizer, candidate: str) -> str:
    """A candidate (`##` inside a word) as the tokenizer's vocabulary writes it."""
    inside = candidate.startswith(CONTINUES) and candidate != CONTINUES
    text = candidate.removeprefix(CONTINUES) if inside else candidate
    if tokenizer.algorithm == "byte-bpe":
        return to_stand_ins((b"" if inside else b" ") + text.encode("utf-8"))
    return tokenizer.continuing_prefix + text if inside else text


def check_kind(tokenizer: Tokenizer) -> None:
    """Raise `TokenizerError` unless K-Tokeniser can work on it."""
    if tokenizer.algorithm not in KINDS:
        raise TokenizerError(
            f"{tokenizer.where}: k-tokeniser works on WordPiece and byte-level BPE tokenizers, and this one is {tokenizer.algorithm}: "
            "use --words or --extend instead"
        )


def vocabulary_text(tokenizer: Tokenizer) -> bytes:
    """Vocabulary and merges in one canonical form, to be hashed: saving again may reformat the file but not change this."""
    model: dict[str, Any] = json.loads(tokenizers.Tokenizer.to_str(tokenizer.backend))["model"]
    return json.dumps([sorted(model["vocab"].items()), model.get("merges")], ensure_ascii=False).encode("utf-8", "surrogatepass")
