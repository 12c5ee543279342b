"""Step B: how often each character n-gram occurs in the words of one semantic type."""

from collections import Counter
from collections.abc import Iterator, Mapping


def count_ngrams(words: Mapping[str, int], *, truncate: bool = True) -> Counter[str]:
    r"""Counts of the n-grams of `words` (word -> occurrences); keys are plain characters, without `##`.

    For each word of length L, each n = 1..L and each start i = 0..L-1, `word[i : i + n]` counts once. With `truncate` an n-gram that would
    run past the end is cut there, so the suffix from i counts i + 1 times; without it such n-grams are left out and every substring
    counts once a place.
    """
    table: Counter[str] = Counter()
    for word, count in words.items():
        length = len(word)
        for start in range(length):
            for end in range(start + 1, length):
                table[word[start:end]] += count
            table[word[start:]] += count * (start + 1 if truncate else 1)
    return table


def distinct_ngrams(word: str) -> Iterator[str]:
    """The n-grams of a word in the order of their enumeration, short ones first, each once."""
    seen: set[str] = set()
    for size in range(1, len(word) + 1):
        for start in range(len(word)):
            ngram = word[start : start + size]
            if ngram not in seen:
                seen.add(ngram)
                yield ngram
