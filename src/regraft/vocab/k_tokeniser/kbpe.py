"""Step C: knowledge BPE, which cuts one word at a time with the n-gram counts of its semantic type as weights."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from regraft.vocab.k_tokeniser.ngrams import distinct_ngrams

END = "</w>"
Pair = tuple[str, str]

# pseudo-syllables, in the order in which they are tried at each place: V+C+, V+, C+V+, C, CVC. What is not a vowel is a consonant, so
# every string is covered; the last form is in the paper's list but the one before always matches first.
_VOWEL, _CONSONANT = "[aeiouy]", "[^aeiouy]"
_SYLLABLE = re.compile(
    "|".join((f"{_VOWEL}+{_CONSONANT}+", f"{_VOWEL}+", f"{_CONSONANT}+{_VOWEL}+", _CONSONANT, f"{_CONSONANT}{_VOWEL}{_CONSONANT}")),
    re.DOTALL,
)


def learn_pieces(word: str, frequencies: Mapping[str, int], merges: int = 20) -> list[str]:
    """The pieces that up to `merges` merges make out of the n-grams of `word`, in the order of learning, without repeats.

    Each n-gram is a string of characters, the last marked as the end, with its count as weight (1 if absent). A pair weighs what the
    strings that hold it weigh together; the heaviest is merged, on ties the one met first; a best weight below 2 ends it.
    """
    board = _Board(word, frequencies)
    pieces: dict[str, None] = {}
    for _ in range(merges):
        pair = board.heaviest()
        if pair is None:
            break
        pieces["".join(pair).removesuffix(END)] = None
        board.merge(pair)
    return list(pieces)


class _Board:
    """The spelled n-grams of one word, with the weight of each adjacent pair kept up to date."""

    def __init__(self, word: str, frequencies: Mapping[str, int]) -> None:
        self.strings: list[list[str]] = []
        self.weights: list[int] = []
        self.pairs: dict[Pair, int] = defaultdict(int)
        self.where: dict[Pair, set[int]] = defaultdict(set)
        for ngram in distinct_ngrams(word):
            if len(ngram) > 1:  # a single character has no pair
                index, weight = len(self.strings), frequencies.get(ngram, 1)
                self.strings.append([*ngram[:-1], ngram[-1] + END])
                self.weights.append(weight)
                for pair in set(pairwise(self.strings[index])):
                    self.pairs[pair] += weight
                    self.where[pair].add(index)

    def heaviest(self) -> Pair | None:
        best = max(self.pairs.values(), default=0)
        if best < 2:
            return None
        tied = [pair for pair, weight in self.pairs.items() if weight == best]
        return tied[0] if len(tied) == 1 else min(tied, key=self._first_met)

    def _first_met(self, pair: Pair) -> tuple[int, int]:
        index = min(self.where[pair])
        return index, list(pairwise(self.strings[index])).index(pair)

    def merge(self, pair: Pair) -> None:
        for index in self.where.pop(pair):
            symbols, weight = self.strings[index], self.weights[index]
            joined = join_pair(symbols, pair)
            before, after = set(pairwise(symbols)), set(pairwise(joined))
            for gone in before - after:
                self.pairs[gone] -= weight
                if gone != pair:
                    self.where[gone].discard(index)
            for made in after - before:
                self.pairs[made] += weight
                self.where[made].add(index)
            self.strings[index] = joined
        del self.pairs[pair]


def join_pair(symbols: Sequence[str], pair: Pair) -> list[str]:
    """`symbols` with each occurrence of `pair`, from the left, made one."""
    joined: list[str] = []
    place = 0
    while place < len(symbols):
        if place + 1 < len(symbols) and (symbols[place], symbols[place + 1]) == pair:
            joined.append(symbols[place] + symbols[place + 1])
            place += 2
        else:
            joined.append(symbols[place])
            place += 1
    return joined


def cut_greedily(word: str, pieces: Sequence[str], longest: int = 5) -> list[str]:
    """`word` from left to right, at each place by the longest of `pieces` that has at most `longest` characters, else one character."""
    known = set(pieces)
    cut: list[str] = []
    place = 0
    while place < len(word):
        size = next((n for n in range(min(longest, len(word) - place), 1, -1) if word[place : place + n] in known), 1)
        cut.append(word[place : place + size])
        place += size
    return cut


def split_syllables(piece: str) -> list[str]:
    """`piece` in pseudo-syllables; joined again they are the piece."""
    return [match.group() for match in _SYLLABLE.finditer(piece)]


def cut_word(word: str, frequencies: Mapping[str, int], *, merges: int = 20, longest: int = 5, syllables_from: int = 4) -> list[str]:
    """Steps C.1 to C.4: the knowledge pieces of a word, from left to right.

    The first piece is split into pseudo-syllables when it has at least `syllables_from` characters.
    """
    cut = cut_greedily(word, learn_pieces(word, frequencies, merges), longest)
    return [*split_syllables(cut[0]), *cut[1:]] if cut and len(cut[0]) >= syllables_from else cut
