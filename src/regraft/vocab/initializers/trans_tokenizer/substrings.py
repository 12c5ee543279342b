"""Smoothing over spelling: a token without translations borrows those of tokens that start with it or that it holds.

Enters: each linked token's distribution over old tokens. Leaves: distributions for tokens that had none. Tokens that start with a string
are one range of the sorted vocabulary and parts of a string are looked up, so nothing is compared with the whole vocabulary.
"""

from bisect import bisect_left
from collections.abc import Mapping

import numpy as np
from scipy import sparse

from regraft.vocab.initializer import Target
from regraft.vocab.mixing.fallback import empty_rows, normalized

VOTE = 1000.0  # votes of a borrowed distribution; twice as many for old tokens that begin with a space


def smooth(votes: sparse.csr_matrix, weights: sparse.csr_matrix, target: Target) -> sparse.csr_matrix:
    """`weights` of the new tokens, shape (new tokens, old vocabulary), with empty rows filled from related rows of `votes`.

    `votes`, shape (new vocabulary, old vocabulary), has rows that sum to 1 or 0.
    """
    missing = empty_rows(weights)
    tokenizer = target.tokenizer
    linked = {
        tokenizer.surface(int(token)): int(token)
        for token in np.flatnonzero(np.diff(votes.indptr) > 0)[::-1]  # of equal surfaces, the lowest id
        if not tokenizer.is_special(int(token))
    }
    ordered = sorted(linked)
    rows: list[int] = []
    columns: list[int] = []
    for row in missing.tolist():
        surface = target.surfaces[row]
        if not surface or tokenizer.is_special(int(target.ids[row])):
            continue
        found = [*starting_with(ordered, surface), *longest_parts(linked, surface)]
        rows += [row] * len(found)
        columns += [linked[other] for other in found]
    related = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(target), votes.shape[0]))
    translations = (related @ votes).tocoo()
    initial = np.array([target.old_tokenizer.surface(token).startswith(b" ") for token in range(votes.shape[1])], dtype=bool)
    counts = translations.data * np.where(initial[translations.col], 2 * VOTE, VOTE)
    borrowed = sparse.csr_matrix((counts, (translations.row, translations.col)), shape=translations.shape)
    return sparse.csr_matrix(weights + normalized(borrowed))


def starting_with(ordered: list[bytes], start: bytes) -> list[bytes]:
    """Members of the sorted list that begin with `start` and are longer."""
    first = bisect_left(ordered, start)
    last = bisect_left(ordered, True, lo=first, key=lambda other: not other.startswith(start))
    return [other for other in ordered[first:last] if other != start]


def longest_parts(linked: Mapping[bytes, int], whole: bytes) -> list[bytes]:
    """Parts of `whole` that are in `linked` and lie in no longer such part, left to right; `whole` too, if another token has its bytes."""
    parts: list[bytes] = []
    reached = 0
    for begin in range(len(whole)):
        for end in range(len(whole), max(reached, begin), -1):
            if whole[begin:end] in linked:
                parts.append(whole[begin:end])
                reached = end
                break
    return parts
