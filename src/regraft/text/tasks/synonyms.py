"""Synonyms: which of four words means the same?"""

from dataclasses import dataclass

import numpy as np

from regraft.evaluation.paired import Sample
from regraft.text.tasks.task import Encode, Task, checked, unit


@dataclass(frozen=True)
class Synonyms(Task):
    """Share of questions (word, synonym, three others) whose synonym is nearest by cosine. A tie, or a word without a vector, is 1/4."""

    questions: tuple[tuple[str, ...], ...]

    @property
    def documents(self) -> int:
        return len(self.questions)

    @property
    def texts(self) -> list[str]:
        return [word for question in self.questions for word in question]

    @property
    def needed(self) -> list[tuple[str, ...]]:
        return [question[:2] for question in self.questions]

    def measure(self, encode: Encode) -> Sample:
        words = list(dict.fromkeys(word for question in self.questions for word in question))
        at = {word: number for number, word in enumerate(words)}
        rows = unit(checked(encode(words, "text"), self.name))
        asked = np.array([[at[word] for word in question] for question in self.questions])
        scores = np.einsum("qd,qod->qo", rows[asked[:, 0]], rows[asked[:, 1:]])
        others = scores[:, 1:].max(1)
        known = np.asarray(rows.any(1))[asked[:, :2]].all(1)
        return Sample.of(np.where(known & (scores[:, 0] != others), scores[:, 0] > others, 1 / scores.shape[1]))
