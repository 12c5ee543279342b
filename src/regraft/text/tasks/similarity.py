"""Similarity: does cosine order pairs of texts as people do?"""

from dataclasses import dataclass

import numpy as np

from regraft.evaluation.correlation import Correlation
from regraft.text.tasks.task import Encode, Task, checked, unit


@dataclass(frozen=True)
class Similarity(Task):
    """Spearman correlation of the cosine of two texts with the judgement of people. `pairs` : texts. `gold` : one figure a pair."""

    pairs: tuple[tuple[str, str], ...]
    gold: tuple[float, ...]

    @property
    def documents(self) -> int:
        return len(self.pairs)

    @property
    def texts(self) -> list[str]:
        return [text for pair in self.pairs for text in pair]

    @property
    def needed(self) -> list[tuple[str, ...]]:
        return list(self.pairs)

    def measure(self, encode: Encode) -> Correlation:
        texts = list(dict.fromkeys(text for pair in self.pairs for text in pair))  # each text once
        at = {text: number for number, text in enumerate(texts)}
        rows = unit(checked(encode(texts, "text"), self.name))
        left, right = (rows[[at[pair[side]] for pair in self.pairs]] for side in (0, 1))
        return Correlation((left * right).sum(1)[None], np.asarray(self.gold, dtype=np.float64))
