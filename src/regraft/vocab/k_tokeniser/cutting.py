"""Texts to ids: the base tokenizer cuts everything in one compiled call, and words that a type knows better are put in its place.

A word is chosen once and remembered, so that the cost of a text is a look-up a word. Offsets are characters of the text as given.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.tokenizer.model import checked
from regraft.vocab.k_tokeniser.choice import BASE, WordChooser, roll_back
from regraft.vocab.k_tokeniser.knowledge import Knowledge

BATCH = 512
REMEMBERED = 1 << 20  # words; past it the memory is emptied
SENTENCE_ENDS = frozenset({".", "!", "?", "…", "。", "！", "？", "؟", "।"})
NOT_INITIAL = "\x00"  # before the key of a word without a space in front, which byte-level BPE spells otherwise

Offsets = list[tuple[int, int]]
Choice = tuple[list[int], Offsets, int]  # ids, spans within the word, type


@dataclass
class Cut:
    """One text in tokens: `ids`, their spans `offsets` in the text, and the word of each in `words`. No special tokens."""

    ids: list[int]
    offsets: Offsets
    words: list[int]

    def take(self, ids: list[int], offsets: Offsets, words: list[int], first: int, last: int) -> None:
        """Append the tokens from `first` up to `last` of another cut."""
        self.ids += ids[first:last]
        self.offsets += offsets[first:last]
        self.words += words[first:last]

    def put(self, choice: Choice, start: int, word: int) -> None:
        """Append the tokens chosen for a word that begins at `start`."""
        self.ids += choice[0]
        self.offsets += [(start + a, start + b) for a, b in choice[1]]
        self.words += [word] * len(choice[0])

    def drop(self, first: int) -> None:
        """Remove all tokens from `first` on."""
        del self.ids[first:], self.offsets[first:], self.words[first:]


class Ids(Cut):
    """A cut of which only `ids` are asked for."""

    def take(self, ids: list[int], offsets: Offsets, words: list[int], first: int, last: int) -> None:
        self.ids += ids[first:last]

    def put(self, choice: Choice, start: int, word: int) -> None:
        self.ids += choice[0]

    def drop(self, first: int) -> None:
        del self.ids[first:]


@dataclass(frozen=True)
class WordRecord:
    """What happened to one word: its span, the type chosen (`BASE` where nothing changed), base and chosen ids, whether rolled back."""

    start: int
    end: int
    type: int
    base_ids: list[int]
    ids: list[int]
    rolled_back: bool


@dataclass
class Record:
    """What happened to the words and sentences of one text."""

    words: list[WordRecord] = field(default_factory=list)
    sentences: int = 0
    rolled_back: int = 0


class Cutter:
    """Cuts texts with word choice and roll-back. `phi` may differ from the one saved with the pool."""

    def __init__(self, knowledge: Knowledge, phi: float) -> None:
        self.knowledge, self.phi = knowledge, phi
        self.chooser = WordChooser(knowledge)
        self.base = knowledge.base
        self._normalizer = self.base.backend.normalizer
        self._added = frozenset(self.base.added)
        self._starts_space = [knowledge.tokenizer.surface(i)[:1] == b" " for i in range(knowledge.base_size)]
        self._spaced = self.base.algorithm == "byte-bpe"
        self._memory: dict[str, Choice | None] = {}
        self._surfaces: dict[int, bytes] = {}
        self._knows = bool(knowledge.total) and any(kind.ids for kind in knowledge.types) and phi != 0

    def cut(self, texts: Iterable[str], record: Callable[[Record], None] | None = None, kind: type[Cut] = Cut) -> Iterator[Cut]:
        """Each text in tokens; `record` is called with what happened to it. Raises `TokenizerError` at a lone surrogate.

        With `kind` `Ids`, only the ids of what it yields are to be read.
        """
        batch: list[str] = []
        for text in texts:
            batch.append(checked(text))
            if len(batch) == BATCH:
                yield from self._cut_batch(batch, record, kind)
                batch = []
        if batch:
            yield from self._cut_batch(batch, record, kind)

    def _cut_batch(self, texts: Sequence[str], record: Callable[[Record], None] | None, kind: type[Cut]) -> Iterator[Cut]:
        for text, encoding in zip(texts, self.base.backend.encode_batch(texts, add_special_tokens=False), strict=True):
            if record is None and not self._knows:
                yield Cut(encoding.ids, encoding.offsets, [word or 0 for word in encoding.word_ids])
                continue
            entry = None if record is None else Record()
            yield self._cut_one(text, encoding, entry, kind([], [], []))
            if record is not None and entry is not None:
                record(entry)

    def _cut_one(self, text: str, encoding: Any, record: Record | None, new: Cut) -> Cut:
        ids, offsets, words = encoding.ids, encoding.offsets, encoding.word_ids
        memory, starts_space, spaced = self._memory, self._starts_space, self._spaced
        # where nothing is ever rolled back, the whole text may be taken as one sentence
        by_sentence = self.knowledge.choices.unit == "sentence" and (record is not None or self.phi < 1)
        lines = "\n" in text
        count, first, copied = len(ids), 0, 0  # base tokens in all, read, and taken over into `new`
        mark = kept = 0  # where the sentence began among the base tokens and in `new`
        words_here = 0  # of the record, up to the last sentence border
        while first < count:
            word, last = words[first], first + 1
            while last < count and words[last] == word:
                last += 1
            start, end = offsets[first][0], offsets[last - 1][1]
            shown = text[start:end]
            key = shown if not spaced or starts_space[ids[first]] else NOT_INITIAL + shown
            try:
                choice = memory[key]
            except KeyError:
                choice = self._remember(key, shown, ids[first:last], not key.startswith(NOT_INITIAL))
            if choice is not None:
                new.take(ids, offsets, words, copied, first)
                copied = last
                new.put(choice, start, word)
            if record is not None:
                chosen, kind = (ids[first:last], BASE) if choice is None else (choice[0], choice[2])
                record.words.append(WordRecord(start, end, kind, ids[first:last], chosen, False))
            first = last
            if first == count or (
                by_sentence
                and (lines or (shown.lstrip() if spaced else shown) in SENTENCE_ENDS)
                and _sentence_ends(text, shown, end, offsets[first][0])
            ):
                new.take(ids, offsets, words, copied, first)
                back = roll_back(first - mark, len(new.ids) - kept, self.phi, released=self.knowledge.choices.released)
                if back:
                    new.drop(kept)
                    new.take(ids, offsets, words, mark, first)
                if record is not None:
                    words_here = _close(record, words_here, back)
                mark, kept, copied = first, len(new.ids), first
        return new

    def _remember(self, key: str, shown: str, base_ids: list[int], initial: bool) -> Choice | None:
        if len(self._memory) >= REMEMBERED:
            self._memory.clear()
        choice = self._memory[key] = self._choose(shown, base_ids, initial)
        return choice

    def _choose(self, shown: str, base_ids: list[int], initial: bool) -> Choice | None:
        word = shown.lstrip(" ")
        lead = len(shown) - len(word)
        if not self._knows or not word or word.isupper() or word.isspace() or not self._added.isdisjoint(base_ids):
            return None
        plain = self._plainly(word)
        if self.chooser.is_base(plain, base_ids, initial):
            return None
        places = self._places(word, plain)
        if places is None:
            return None
        found = self.chooser(plain, base_ids, initial)
        if found.type == BASE or found.ids == base_ids:
            return None
        return found.ids, self._spans(found.ids, plain, places, lead), found.type

    def _plainly(self, text: str) -> str:
        """Text as the types see it."""
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        return (text.lower() if self.knowledge.choices.lowercase else text).strip()

    def _places(self, word: str, plain: str) -> list[int] | None:
        """Where each character of `plain` begins in the word, and one place more at the end; None where that cannot be followed."""
        if len(plain) == len(word) and word.isascii():
            return list(range(len(word) + 1))
        parts = [self._plainly(character) for character in word]
        if "".join(parts) != plain:
            return None
        return [i for i, part in enumerate(parts) for _ in part] + [len(word)]

    def _surface(self, token: int) -> bytes:
        if token not in self._surfaces:
            self._surfaces[token] = self.knowledge.tokenizer.surface(token)
        return self._surfaces[token]

    def _spans(self, ids: Sequence[int], plain: str, places: list[int], lead: int) -> Offsets:
        """Spans of the pieces in the word as shown; a part of a character spans all of it."""
        surfaces = [self._surface(i) for i in ids]
        if self._spaced:
            sizes = [len(surface.removeprefix(b" ")) if n == 0 else len(surface) for n, surface in enumerate(surfaces)]
            at = [i for i, character in enumerate(plain) for _ in character.encode("utf-8")]  # character of each byte
        else:
            sizes = [len(surface.decode("utf-8")) for surface in surfaces]
            at = list(range(len(plain)))
        spans, byte = [], 0
        for n, size in enumerate(sizes):
            begin, byte = byte, byte + size
            if size == 0:  # a space alone
                spans.append((0, lead))
                continue
            # the first piece takes the leading space with it where the base's offsets do
            spans.append((0 if n == 0 else lead + places[at[begin]], lead + places[at[byte - 1] + 1]))
        return spans


def _sentence_ends(text: str, word: str, end: int, following: int) -> bool:
    """Whether a sentence ends behind `word`: at its closing mark before white space, or at a line break."""
    if word.lstrip() in SENTENCE_ENDS:
        return following > end or text[following : following + 1].isspace()
    return (following > end and "\n" in text[end:following]) or "\n" in word


def _close(record: Record, start: int, back: bool) -> int:
    record.sentences += 1
    record.rolled_back += back
    if back:
        for i in range(start, len(record.words)):
            was = record.words[i]
            record.words[i] = WordRecord(was.start, was.end, was.type, was.base_ids, was.base_ids, True)
    return len(record.words)
