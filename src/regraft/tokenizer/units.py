"""Text as the old tokenizer cuts it: what the learners of new pieces count.

Enters: texts. Leaves: `Units`, the distinct sequences of old ids within which pieces may be joined, with their counts. No sequence crosses
an added token, a pre-token border or, where words carry a marker, the start of a word.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from regraft.progress import progress_bar
from regraft.tokenizer.alphabet import WORD_MARKER
from regraft.tokenizer.model import Tokenizer, checked, match_longest


@dataclass
class Units:
    """Distinct sequences of symbols and how often each occurs.

    A symbol below the old `vocab_size` is an old id. One above stands for a character that the vocabulary lacks (`missing`: symbol ->
    piece string), which old text shows as byte tokens or as unknown; `cost` is how many tokens it takes there.
    """

    sequences: list[list[int]]
    counts: list[int]
    missing: dict[int, str]
    cost: dict[int, int]


def make_splitter(tokenizer: Tokenizer) -> Callable[[str], Iterator[str]]:
    """A function text -> the strings that the model itself is given: normalized, cut by the pre-tokenizer, added tokens taken out."""
    normalizer, pre_tokenizer = tokenizer.backend.normalizer, tokenizer.backend.pre_tokenizer
    contents = sorted((token.content for token in tokenizer.added.values() if token.content), key=len, reverse=True)
    added = re.compile("|".join(map(re.escape, contents))) if contents else None

    def split(text: str) -> Iterator[str]:
        for stretch in added.split(checked(text)) if added else [checked(text)]:
            if not stretch:
                continue
            plain = normalizer.normalize_str(stretch) if normalizer is not None else stretch
            if pre_tokenizer is None:
                yield plain
            else:
                for word, _ in pre_tokenizer.pre_tokenize_str(plain):
                    yield word

    return split


def count_units(tokenizer: Tokenizer, texts: Iterable[str]) -> Units:
    """Count the sequences of old ids in `texts`, read once."""
    split = make_splitter(tokenizer)
    words: Counter[str] = Counter()
    with progress_bar("counting words", unit="documents") as bar:
        for text in texts:
            for word in split(text):
                # where nothing cuts a line into words, the word markers do; a piece never holds a marker past its start
                if WORD_MARKER in word and tokenizer.algorithm in ("sentencepiece-bpe", "unigram"):
                    words.update(_marked_words(tokenizer, word))
                else:
                    words[word] += 1
            bar.advance()
    encoder = _Encoder(tokenizer)
    found: Counter[tuple[int, ...]] = Counter()
    with progress_bar("cutting words into old pieces", total=len(words), unit="words") as bar:
        for word, count in words.items():
            found[tuple(encoder.encode(word))] += count
            bar.advance()
    kept = [(list(sequence), count) for sequence, count in found.items() if sequence]
    return Units([s for s, _ in kept], [c for _, c in kept], encoder.missing, encoder.cost)


def _marked_words(tokenizer: Tokenizer, line: str) -> list[str]:
    """A line cut where the model begins a word: at each token that starts with the marker. Joined again they are the line."""
    starts = [m.start() for m in re.finditer(f"{WORD_MARKER}+", line) if m.start()]
    return [line[a:b] for a, b in zip([0, *starts], [*starts, len(line)], strict=True)]


class _Encoder:
    """A word's string -> its symbols, with a symbol of its own for each character that the vocabulary lacks."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.missing: dict[int, str] = {}
        self.cost: dict[int, int] = {}
        self._symbols: dict[str, int] = {}
        self._bytes = {i: byte for byte, i in tokenizer.byte_ids.items()} if tokenizer.algorithm != "byte-bpe" else {}

    def encode(self, word: str) -> list[int]:
        tokenizer = self.tokenizer
        if tokenizer.algorithm == "wordpiece":
            return self._encode_wordpiece(word)
        tokens = tokenizer.backend.model.tokenize(word)
        if tokenizer.algorithm == "byte-bpe":
            return [token.id for token in tokens]
        symbols: list[int] = []
        pending = bytearray()
        for token in tokens:
            if token.id in self._bytes:
                pending.append(self._bytes[token.id])
                continue
            symbols += self._characters(pending)
            if token.id == tokenizer.unknown_id:
                symbols += [self._symbol(character, 1) for character in token.value]
            else:
                symbols.append(token.id)
        return symbols + self._characters(pending)

    def _encode_wordpiece(self, word: str) -> list[int]:
        vocab, prefix = self.tokenizer.model_vocab, self.tokenizer.continuing_prefix
        if len(word) > self.tokenizer.model.get("max_input_chars_per_word", 100):
            return []  # the model calls such a word unknown whatever its pieces
        return [vocab[piece] if piece in vocab else self._symbol(piece, 1) for piece in match_longest(word, vocab, prefix)]

    def _characters(self, pending: bytearray) -> list[int]:
        symbols = [self._symbol(character, len(character.encode())) for character in pending.decode("utf-8", "ignore")]
        pending.clear()
        return symbols

    def _symbol(self, piece: str, cost: int) -> int:
        if piece not in self._symbols:
            symbol = self.tokenizer.vocab_size + len(self._symbols)
            self._symbols[piece], self.missing[symbol], self.cost[symbol] = symbol, piece, cost
        return self._symbols[piece]
