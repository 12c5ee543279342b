"""Reverse dictionary: is the entry that a definition belongs to among the nearest?"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regraft.errors import CorpusError
from regraft.evaluation.paired import Sample
from regraft.text.lexical.dictionary import Dictionary, Pair, dictionary, hold_out
from regraft.text.tasks.task import Encode, Task, checked, unit

ASKED_AT_ONCE = 256
SHARE = 0.2  # of entries with two definitions or more that are asked for


@dataclass(frozen=True)
class ReverseDictionary(Task):
    """Mean of 1 / rank of the right entry by cosine. An entry's vector is the mean over its other definitions.

    `asked` : (definition, its row of `index`).
    """

    index: Dictionary
    asked: tuple[tuple[str, int], ...]

    @property
    def documents(self) -> int:
        return len(self.asked)

    @property
    def texts(self) -> list[str]:
        return [definition for definition, _ in self.asked]

    def measure(self, encode: Encode) -> Sample:
        return Sample.of(1 / self.ranks(encode))

    def ranks(self, encode: Encode) -> npt.NDArray[np.float64]:
        """The place of the right entry for each definition asked, from 1; behind every other entry that is as near."""
        vectors = checked(encode(list(self.index.rows_of), "text"), self.name)
        rows = unit(self.index.averaged(vectors).astype(np.float32))
        found = unit(checked(encode([text for text, _ in self.asked], "text"), self.name))
        right = np.array([row for _, row in self.asked])
        ranks = []
        for start in range(0, len(found), ASKED_AT_ONCE):
            scores = found[start : start + ASKED_AT_ONCE] @ rows.T
            own = np.take_along_axis(scores, right[start : start + ASKED_AT_ONCE, None], 1)
            ranks.append((scores >= own).sum(1))  # itself included
        return np.concatenate(ranks).astype(np.float64)

    def figures(self, encode: Encode) -> dict[str, float]:
        """MRR, MRR that counts only the first ten places (as DefSent's code does), and shares within the first 1, 3 and 10."""
        ranks = self.ranks(encode)
        found = {"mrr": float((1 / ranks).mean()), "mrr@10": float(((ranks <= 10) / ranks).mean())}
        return found | {f"top-{k}": float((ranks <= k).mean()) for k in (1, 3, 10)}


def reverse_dictionary(name: str, pairs: Iterable[Pair], sha256: str, *, share: float = SHARE) -> ReverseDictionary:
    """The task out of a dictionary. Raises `CorpusError` where no entry has a definition to ask for beside another."""
    _, indexed, asked = hold_out(pairs, share)
    index = dictionary(indexed, merge=False)
    row_of = {names[0]: row for row, names in enumerate(index.names)}
    if not asked:
        raise CorpusError(f"{name}: no entry has a second definition that is its own: there is nothing to look up")
    return ReverseDictionary(name, "MRR", sha256, index, tuple((text, row_of[" ".join(entry.split())]) for entry, text in asked))
