"""Bilingual dictionaries: read, cleaned, split, and matched with two tables; and seeds where there is none.

Enters: lines "source word, target word" in MUSE's way, or two word lists. Leaves: pairs of words, all translations of a word among them,
and which rows they are. Words are compared in Unicode's composed form (NFC) and otherwise as written: case stays, and so do joiners such as
U+200D, without which Sinhala conjuncts fall apart.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError
from regraft.vectors.alignment import read_dictionary

Pair = tuple[str, str]
Ids = npt.NDArray[np.int64]
NUMERAL = re.compile(r"\d+(?:[.,]\d+)*")
LATIN = 256  # code points below it: what follow-up work takes for left-over English in another script's table


@dataclass(frozen=True)
class Coverage:
    """Which pairs of a dictionary two tables have.

    Attributes
    ----------
    pairs : (k, 2) rows of the pairs that both know, each once, in the dictionary's order.
    known_pairs, all_pairs, known_words, all_words : how many pairs and distinct source words there are; a word is known with a translation.
    """

    pairs: Ids
    known_pairs: int
    all_pairs: int
    known_words: int
    all_words: int

    def __str__(self) -> str:
        return f"{self.known_pairs:,} of {self.all_pairs:,} pairs, {self.known_words:,} of {self.all_words:,} source words"


def composed(word: str) -> str:
    """`word` in NFC. Nothing else is changed."""
    return unicodedata.normalize("NFC", word)


def read_pairs(path: str | Path) -> list[Pair]:
    """Distinct pairs of a dictionary file, in its order, all translations kept. A target may hold spaces.

    Raises `ParameterError` if the file cannot be read or holds no pair.
    """
    return list(dict.fromkeys((composed(source), composed(target)) for source, target in read_dictionary(path)))


def cover(pairs: Sequence[Pair], source: Mapping[str, int], target: Mapping[str, int]) -> Coverage:
    """`pairs` as rows of two tables, given as word -> row."""
    known = [(source[a], target[b]) for a, b in pairs if a in source and b in target]
    found = np.array(known, dtype=np.int64).reshape(-1, 2)
    return Coverage(found, len(known), len(pairs), len(set(found[:, 0].tolist())), len({a for a, _ in pairs}))


def identical_pairs(source: Sequence[str], target: Sequence[str]) -> list[Pair]:
    """Words that both lists hold, as pairs of themselves, in the order of `source`."""
    known = set(target)
    return [(word, word) for word in source if word in known]


def numeral_pairs(source: Sequence[str], target: Sequence[str]) -> list[Pair]:
    """Numerals (of any script's digits) that both lists hold, as written or by their value, in the order of `source`."""
    known: dict[str, str] = {}
    for word in target:
        if NUMERAL.fullmatch(word):
            known.setdefault(_digits(word), word)
    return [(word, known[_digits(word)]) for word in source if NUMERAL.fullmatch(word) and _digits(word) in known]


def _digits(word: str) -> str:
    return "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in word)


def is_latin(word: str) -> bool:
    """Whether all code points lie below 256."""
    return all(ord(c) < LATIN for c in word)


def without_identical(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs whose two words differ: what a name tells says nothing of a map."""
    return [(a, b) for a, b in pairs if a != b]


def split(
    pairs: Sequence[Pair], order: Sequence[str], *, train: int = 5000, test: int = 1500, translations: int = 5
) -> tuple[list[Pair], list[Pair]]:
    """Training and test pairs as the Sinhala-English benchmark makes them: disjoint by source word.

    Source words come in the `order` of a list (such as that of another benchmark, or a table's frequencies), those that it lacks are left
    out; the first `train` words with their first `translations` translations train, the next `test` test.
    """
    by_word: dict[str, list[str]] = {}
    for source, target in pairs:
        by_word.setdefault(source, []).append(target)
    words = [word for word in dict.fromkeys(order) if word in by_word]
    parts = [words[:train], words[train : train + test]]
    first, second = ([(word, target) for word in part for target in by_word[word][:translations]] for part in parts)
    return first, second


def induced(counts: Mapping[Pair, float], *, translations: int = 5, smallest: float = 0.1) -> list[Pair]:
    r"""Pairs from how often words were linked in parallel sentences: each source word's most probable targets.

    :math:`p(t \mid s)` is the share of *t* among the links of *s*; kept are the `translations` best of at least `smallest`. How the
    benchmark's authors cut their probability dictionary is not written down; these bounds are ours. Of equal ones the
    first by the alphabet.
    """
    totals: dict[str, float] = {}
    for (source, _), count in counts.items():
        totals[source] = totals.get(source, 0.0) + count
    by_word: dict[str, list[tuple[float, str]]] = {source: [] for source in totals}
    for (source, target), count in counts.items():
        if count / totals[source] >= smallest:
            by_word[source].append((-count, target))
    return [(source, target) for source, found in by_word.items() for _, target in sorted(found)[:translations]]


def write_pairs(pairs: Sequence[Pair], path: Path) -> None:
    """One pair a line, with a tab. Raises `ParameterError` where a word holds a tab or a line break."""
    for pair in pairs:
        if any(c in word for word in pair for c in "\t\n\r"):
            raise ParameterError(f"{pair}: a word with a tab or a line break cannot be written into a dictionary")
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
