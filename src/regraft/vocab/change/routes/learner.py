"""Learning pieces by joining neighbours: byte pair encoding that starts from a trained vocabulary instead of an alphabet.

Enters: `Units`. Leaves: the `Step`s taken, best gain first. Pair counts are kept up to date by looking only at the places that a join
changes, and the best pair comes off a heap whose stale entries are corrected when they surface, so a step costs what it changes.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from regraft.progress import progress_bar
from regraft.tokenizer.units import Units


@dataclass(frozen=True)
class Step:
    """One thing learned.

    `left` and `right` are symbols, -1 both for a character the vocabulary lacked. `fresh` is False when another pair made the same piece
    before, so that no id is needed.
    """

    symbol: int
    left: int
    right: int
    piece: str
    fresh: bool


class Learner:
    """Joins pairs of symbols, most frequent first.

    Parameters
    ----------
    units : what to learn from; changed in place.
    join : (left, right) symbols -> the piece they would make, or None where they must stay apart. Asked once a pair.
    first_symbol : the number of the first new symbol.
    min_frequency : a pair (or a missing character) seen less often is not learned.
    """

    def __init__(self, units: Units, join: Callable[["Learner", int, int], str | None], first_symbol: int, min_frequency: int) -> None:
        self.units, self.join, self.min_frequency = units, join, min_frequency
        self.strings: dict[int, str] = dict(units.missing)
        self.steps: list[Step] = []
        self.use: Counter[int] = Counter()
        self._next = max([first_symbol - 1, *units.missing]) + 1
        self._asleep = set(units.missing)  # missing characters not yet taken in: pairs with them wait
        self._made: dict[str, int] = {}
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        self._refused: set[tuple[int, int]] = set()
        self._waiting: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        self._heap: list[tuple[int, int, int]] = []
        for index, (sequence, count) in enumerate(zip(units.sequences, units.counts, strict=True)):
            for symbol in sequence:
                self.use[symbol] += count
            for pair in pairwise(sequence):
                self._pairs[pair] += count
                self._where[pair].add(index)
        for symbol in units.missing:
            self._push((symbol, -1), self.use[symbol] * max(1, units.cost[symbol] - 1))
        self._offer(self._pairs)

    @property
    def fresh(self) -> int:
        """How many pieces were made."""
        return len(self._made)

    def lives(self, symbol: int) -> bool:
        """Whether a piece still occurs in the units as they are now cut, or is a character: other text will need it."""
        return self.use[symbol] > 0 or symbol in self.units.missing

    def live(self) -> int:
        """How many of the pieces made are alive."""
        return sum(map(self.lives, self._made.values()))

    def run(self, size: int) -> None:
        """Learn until `size` pieces are made, or nothing learnable is left."""
        with progress_bar("learning pieces", total=size, unit="pieces") as bar:
            while self.fresh < size and self._take_best():
                bar.update(self.fresh)

    def _take_best(self) -> bool:
        while self._heap:
            negative, left, right = heapq.heappop(self._heap)
            if right < 0:
                self._wake(left)
                return True
            pair = (left, right)
            count = self._pairs[pair]
            if count != -negative:
                self._push(pair, count)
                continue
            piece = self.join(self, left, right)
            if piece is None:
                self._refused.add(pair)
                continue
            self._join(pair, piece)
            return True
        return False

    def _push(self, pair: tuple[int, int], gain: int) -> None:
        if gain >= max(1, self.min_frequency):
            heapq.heappush(self._heap, (-gain, *pair))

    def _offer(self, pairs: "Counter[tuple[int, int]] | set[tuple[int, int]]") -> None:
        for pair in pairs:
            if pair in self._refused:
                continue
            asleep = [symbol for symbol in pair if symbol in self._asleep]
            if asleep:
                self._waiting[asleep[0]].add(pair)
            else:
                self._push(pair, self._pairs[pair])

    def _wake(self, symbol: int) -> None:
        piece = self.strings[symbol]
        self._asleep.discard(symbol)
        self._made[piece] = symbol
        self.steps.append(Step(symbol, -1, -1, piece, True))
        self._offer(self._waiting.pop(symbol, set()))

    def _join(self, pair: tuple[int, int], piece: str) -> None:
        fresh = piece not in self._made
        if fresh:
            self._made[piece] = self._next
            self.strings[self._next] = piece
            self._next += 1
        symbol = self._made[piece]
        self.steps.append(Step(symbol, *pair, piece, fresh))
        self._offer(self.apply(pair, symbol))

    def apply(self, pair: tuple[int, int], symbol: int) -> set[tuple[int, int]]:
        """Replace `pair` by `symbol` everywhere; returns the pairs whose count rose."""
        left, right = pair
        risen: set[tuple[int, int]] = set()
        for index in sorted(self._where.pop(pair, ())):
            sequence, count = self.units.sequences[index], self.units.counts[index]
            position = 0
            while True:
                try:
                    position = sequence.index(left, position, len(sequence) - 1)
                except ValueError:
                    break
                if sequence[position + 1] == right:
                    self._join_at(sequence, position, symbol, index, count, risen)
                position += 1
        del self._pairs[pair]
        return risen

    def _join_at(self, sequence: list[int], position: int, symbol: int, index: int, count: int, risen: set[tuple[int, int]]) -> None:
        left, right = sequence[position], sequence[position + 1]
        self._pairs[left, right] -= count
        self.use[left] -= count
        self.use[right] -= count
        self.use[symbol] += count
        for old, new in (
            ((sequence[position - 1], left), (sequence[position - 1], symbol)) if position else (None, None),
            ((right, sequence[position + 2]), (symbol, sequence[position + 2])) if position + 2 < len(sequence) else (None, None),
        ):
            if old is not None and new is not None:
                self._pairs[old] -= count
                self._pairs[new] += count
                self._where[new].add(index)
                risen.add(new)
        sequence[position : position + 2] = [symbol]
