"""Steps F and G: which type's segmentation a word takes, and whether a sentence keeps its choices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regraft.tokenizer.alphabet import to_stand_ins
from regraft.vocab.k_tokeniser.knowledge import Knowledge

BASE = -1


def entropy(frequency: int, total: int) -> float:
    r""":math:`-P \log_2 P` in bits, with :math:`P = (f + 1) / TF`."""
    share = (frequency + 1) / total
    return -share * math.log2(share)


def threshold(h0_count: int, total: int) -> float:
    r""":math:`h_0 = -q \log_2 q` in bits, with :math:`q = h0\_count / TF`."""
    share = h0_count / total
    return -share * math.log2(share)


def choose(base: float, types: Sequence[float | None], h0: float) -> int:
    """The position of the type whose segmentation has the smallest entropy, or `BASE`.

    Parameters
    ----------
    base : entropy of the base segmentation; infinite where it is unknown, so that it never wins.
    types : entropy of each type's segmentation, None where it has none.

    Base if every type lies below `h0` (none knows the word); on ties the first type, then the later ones, then base.
    """
    known = [(value, position) for position, value in enumerate(types) if value is not None]
    if not known or all(value < h0 for value, _ in known):
        return BASE
    value, position = min(known)
    return position if value <= base else BASE


def roll_back(base_tokens: int, chosen_tokens: int, phi: float, *, released: bool = False) -> bool:
    """Whether a sentence goes back to the base tokenizer, from its token counts (step G).

    phi = 0 always, phi >= 1 never; else when the relative saving r = (base - chosen) / base is at least phi, or negative. As `released`
    only when r > phi.
    """
    if phi == 0:
        return True
    if phi >= 1 or base_tokens == 0:
        return False
    saving = (base_tokens - chosen_tokens) / base_tokens
    return saving > phi if released else saving >= phi or saving < 0


@dataclass(frozen=True)
class Segmentation:
    """What one tokenizer of the pool makes of a word: `type` is a position among the types or `BASE`, `entropy` in bits or None."""

    type: int
    ids: list[int]
    entropy: float | None


class WordChooser:
    """Step F for one pool. A word comes normalized, in lower case where the settings say so."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self.matchers = [knowledge.matcher(kind.ids) for kind in knowledge.types]
        self.pool = knowledge.matcher(knowledge.new_types)
        self.h0 = threshold(knowledge.choices.h0_count, knowledge.total) if knowledge.total else 0.0
        self._stand_ins = knowledge.tokenizer.algorithm == "byte-bpe"

    def weigh(self, ids: Sequence[int]) -> float | None:
        """H of a segmentation; None where a word of it is unknown, or nothing was counted."""
        if not self.knowledge.total or not ids or self.knowledge.unknown in ids or self.knowledge.base.unknown_id in ids:
            return None
        scores = self.knowledge.scores
        return entropy(sum(scores[i] for i in ids), self.knowledge.total)

    def segmentations(self, word: str, base_ids: Sequence[int], initial: bool = True) -> list[Segmentation]:
        """The word by each type's tokenizer, in order, then by the base. `initial`: a space stands before it (byte-level BPE)."""
        word = self._model_string(word, initial)
        found = []
        for position, matcher in enumerate(self.matchers):
            ids = [token.id for token in matcher.tokenize(word)]
            value = self.weigh(ids)
            # longest match over the old pieces of byte-level BPE alone is not how that model cuts: only a new piece makes it a choice
            if self._stand_ins and max(ids, default=0) < self.knowledge.base_size:
                value = None
            found.append(Segmentation(position, ids, value))
        return [*found, Segmentation(BASE, list(base_ids), self.weigh(base_ids))]

    def _model_string(self, word: str, initial: bool) -> str:
        return to_stand_ins((b" " if initial else b"") + word.encode("utf-8")) if self._stand_ins else word

    def is_base(self, word: str, base_ids: Sequence[int], initial: bool = True) -> bool:
        """Whether no type can differ from base: longest match over all pieces at once meets no new one, so none alone would either."""
        ids = [token.id for token in self.pool.tokenize(self._model_string(word, initial))]
        return max(ids, default=0) < self.knowledge.base_size if self._stand_ins else ids == base_ids

    def __call__(self, word: str, base_ids: Sequence[int], initial: bool = True) -> Segmentation:
        """The segmentation that the word takes."""
        *types, base = self.segmentations(word, base_ids, initial)
        chosen = choose(math.inf if base.entropy is None else base.entropy, [found.entropy for found in types], self.h0)
        return base if chosen == BASE else types[chosen]


def used_pieces(chooser: WordChooser, words: Mapping[str, Mapping[str, int]]) -> set[int]:
    """Ids that each type's own tokenizer cuts that type's words into."""
    used: set[int] = set()
    for position, kind in enumerate(chooser.knowledge.types):
        for word in words.get(kind.name, ()):
            used.update(chooser.segmentations(word, [])[position].ids)
    return used
