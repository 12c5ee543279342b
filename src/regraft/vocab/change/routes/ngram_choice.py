"""Which n-grams of old tokens are worth a token of their own: the greedy, overlap-aware choice of AdaptiVocab.

Enters: text as the old tokenizer cuts it. Leaves: n-grams, best first, each with the tokens it saves once those before it are in use.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regraft.progress import progress_bar
from regraft.tokenizer.model import Tokenizer, checked

Ids = npt.NDArray[np.int64]
BATCH = 1000


@dataclass(frozen=True)
class TokenStream:
    """Text as token ids, one after the other.

    Attributes
    ----------
    ids : (n,) old ids; -1 stands between two texts.
    chunks : (n,) number of the pre-token that each token lies in, ascending.
    """

    ids: Ids
    chunks: Ids

    def parts(self, start: int, stop: int) -> tuple[tuple[int, ...], ...]:
        """The ids from `start` to `stop`, by pre-token."""
        borders = np.flatnonzero(np.diff(self.chunks[start:stop])) + 1
        return tuple(tuple(part.tolist()) for part in np.split(self.ids[start:stop], borders))

    @classmethod
    def read(cls, tokenizer: Tokenizer, texts: Iterable[str]) -> "TokenStream":
        """Encode `texts`, read once."""
        ids: list[Ids] = []
        chunks: list[Ids] = []
        first = 0
        batch: list[str] = []
        with progress_bar("reading text as tokens", unit="documents") as bar:
            for text in (*texts, None):
                if text is not None:
                    batch.append(checked(text))
                    bar.advance()
                if text is None or len(batch) == BATCH:
                    for encoding in tokenizer.backend.encode_batch(batch, add_special_tokens=False):
                        numbers = np.array([-1 if w is None else w for w in encoding.word_ids], dtype=np.int64)
                        borders = np.diff(numbers, prepend=-2) != 0  # numbers begin anew behind an added token
                        ids += [np.array(encoding.ids, dtype=np.int64), np.array([-1])]
                        chunks += [first + np.cumsum(borders), np.array([first + len(borders) + 2])]
                        first += len(borders) + 3
                    batch = []
        return cls(np.concatenate([*ids, np.array([-1])]), np.concatenate([*chunks, np.array([first])]))


@dataclass(frozen=True)
class NGram:
    """Old ids by pre-token, `parts`; `count` times it stands in the text apart from n-grams chosen before."""

    parts: tuple[tuple[int, ...], ...]
    count: int

    @property
    def ids(self) -> tuple[int, ...]:
        """Its old ids."""
        return tuple(token for part in self.parts for token in part)

    @property
    def crosses(self) -> bool:
        """Whether it is made of several pre-tokens, all of them whole."""
        return len(self.parts) > 1

    @property
    def saved(self) -> int:
        """Tokens that the text is shorter by: count * (length - 1)."""
        return self.count * (len(self.ids) - 1)


def choose_ngrams(
    stream: TokenStream,
    allowed: Callable[[int], bool],
    accept: Callable[[NGram], bool] = lambda ngram: True,
    *,
    longest: int,
    min_frequency: int,
    crossing: bool = True,
) -> Iterator[NGram]:
    r"""N-grams of 2 to `longest` tokens, by :math:`\text{count} \times (n - 1)`, the tokens saved.

    The count is of occurrences that neither overlap each other nor an n-gram chosen before; it is taken anew after each choice, so every
    n-gram is the best one left. Ties go to the shorter and then the earlier one.

    An n-gram consists of `allowed` tokens within one pre-token, or, with `crossing`, of whole pre-tokens; `longest` >= 2, counts
    >= `min_frequency`. One that `accept` turns down when its turn comes takes up no text. Counts only ever fall, so an n-gram is counted
    again only when it comes up as best.
    """
    candidates = _Candidates(stream, allowed, longest, min_frequency, crossing)
    taken = np.zeros(len(stream.ids), dtype=bool)
    heap = [(-int(count) * (n - 1), n, int(first), int(count)) for n, first, count in candidates.summary()]
    heapq.heapify(heap)
    while heap:
        _, n, first, _ = heapq.heappop(heap)
        places = candidates.places(n, first, taken)
        score = -len(places) * (n - 1)
        if len(places) < min_frequency:
            continue
        if heap and (score, n, first) > heap[0][:3]:
            heapq.heappush(heap, (score, n, first, len(places)))
            continue
        ngram = NGram(stream.parts(first, first + n), len(places))
        if accept(ngram):
            for place in places:
                taken[place : place + n] = True
            yield ngram


class _Candidates:
    """Where every n-gram that may be chosen stands; an n-gram is named by its length and the first place it stands at."""

    def __init__(self, stream: TokenStream, allowed: Callable[[int], bool], longest: int, min_frequency: int, crossing: bool) -> None:
        ids, chunks = stream.ids, stream.chunks
        known = np.unique(ids)
        fine = np.array([token >= 0 and allowed(int(token)) for token in known])
        good = fine[np.searchsorted(known, ids)]
        begins, ends = np.diff(chunks, prepend=-1) != 0, np.diff(chunks, append=chunks[-1] + 1) != 0
        # names of (n-1)-grams, made ids of n-grams step by step: numbers stay below n * vocabulary, and nothing is hashed
        names, width = ids - ids.min(), int(ids.max() - ids.min()) + 1
        self._groups: dict[int, tuple[Ids, Ids, dict[int, int]]] = {}
        live = good.copy()
        for n in range(2, longest + 1):
            if len(ids) < n:
                break
            live = live[:-1] & good[n - 1 :]
            _, names = np.unique(names[: len(live)] * width + (ids[n - 1 :] - ids.min()), return_inverse=True)
            inside = chunks[: len(live)] == chunks[n - 1 :]
            whole = begins[: len(live)] & ends[n - 1 :] if crossing else np.zeros(len(live), dtype=bool)
            self._group(n, names, np.flatnonzero(live & (inside | whole)), min_frequency)

    def _group(self, n: int, names: Ids, starts: Ids, min_frequency: int) -> None:
        order = starts[np.argsort(names[starts], kind="stable")]
        _, first, counts = np.unique(names[order], return_index=True, return_counts=True)
        kept = counts >= min_frequency
        bounds = np.stack([first[kept], first[kept] + counts[kept]], axis=1)
        self._groups[n] = (order, bounds, {int(order[start]): row for row, (start, _) in enumerate(bounds.tolist())})

    def summary(self) -> Iterator[tuple[int, int, int]]:
        """(length, first place, occurrences with overlaps) of every n-gram."""
        for n, (order, bounds, _) in self._groups.items():
            for start, stop in bounds.tolist():
                yield n, int(order[start]), stop - start

    def places(self, n: int, first: int, taken: npt.NDArray[np.bool_]) -> list[int]:
        """Places of an n-gram that overlap nothing that is taken, nor each other, left to right."""
        order, bounds, rows = self._groups[n]
        start, stop = bounds[rows[first]]
        found = order[start:stop]
        free = ~np.logical_or.reduce([taken[found + k] for k in range(n)])
        kept: list[int] = []
        for place in found[free].tolist():
            if not kept or place >= kept[-1] + n:
                kept.append(place)
        return kept
