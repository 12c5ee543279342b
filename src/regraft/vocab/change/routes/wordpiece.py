"""Learning WordPiece pieces: pairs are joined as in byte pair encoding, but each word is cut again by longest match, as the model will."""

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise

from regraft.tokenizer.model import Tokenizer, match_longest
from regraft.tokenizer.units import Units
from regraft.vocab.change.routes.learner import Learner

Join = Callable[[Learner, int, int], str | None]  # the piece that two symbols make, or None where they may not be joined


class WordPieceLearner(Learner):
    """A `Learner` whose `apply` cuts every word that the new piece may touch again, greedily."""

    tokenizer: Tokenizer

    @classmethod
    def for_tokenizer(cls, tokenizer: Tokenizer) -> "Callable[[Units, Join, int, int], WordPieceLearner]":
        """A constructor with `Learner`'s arguments."""

        def make(units: Units, join: Join, first_symbol: int, min_frequency: int) -> "WordPieceLearner":
            learner = cls.__new__(cls)
            learner.tokenizer = tokenizer
            learner._prepare(units)
            Learner.__init__(learner, units, join, first_symbol, min_frequency)
            return learner

        return make

    def _prepare(self, units: Units) -> None:
        pieces, prefix = self.tokenizer.pieces, self.tokenizer.continuing_prefix
        self._ids = dict(self.tokenizer.model_vocab)
        self._ids.update({piece: symbol for symbol, piece in units.missing.items()})
        self._holds: defaultdict[int, set[int]] = defaultdict(set)
        self._words: list[str] = []
        for index, sequence in enumerate(units.sequences):
            strings = [pieces[s] if s in pieces else units.missing[s] for s in sequence]
            self._words.append("".join([strings[0], *(s.removeprefix(prefix) for s in strings[1:])]))
            for symbol in sequence:
                self._holds[symbol].add(index)

    def apply(self, pair: tuple[int, int], symbol: int) -> set[tuple[int, int]]:
        """Cut again every word where a piece that begins the new one stands; returns the pairs whose count rose."""
        piece, prefix = self.strings[symbol], self.tokenizer.continuing_prefix
        self._ids[piece] = symbol
        body = piece.removeprefix(prefix)
        shortest = len(piece) - len(body) + 1
        touched: set[int] = set()
        for end in range(shortest, len(piece)):
            start = self._ids.get(piece[:end])
            touched |= {i for i in self._holds.get(start, ()) if body in self._words[i]} if start is not None else set()
        risen: set[tuple[int, int]] = set()
        for index in sorted(touched):
            self._recut(index, risen)
        self._refused.add(pair)  # where it still stands, longest match keeps it apart
        return risen

    def _recut(self, index: int, risen: set[tuple[int, int]]) -> None:
        old, count = self.units.sequences[index], self.units.counts[index]
        new = [self._ids[piece] for piece in match_longest(self._words[index], self._ids, self.tokenizer.continuing_prefix)]
        if new == old:
            return
        for symbol in old:
            self.use[symbol] -= count
        for symbol in new:
            self.use[symbol] += count
            self._holds[symbol].add(index)
        for pair in pairwise(old):
            self._pairs[pair] -= count
        for pair in pairwise(new):
            self._pairs[pair] += count
            self._where[pair].add(index)
            risen.add(pair)
        self.units.sequences[index] = new
