"""Analogies: a is to b as c is to what?"""

from dataclasses import dataclass
from itertools import chain

import numpy as np

from regraft.evaluation.paired import Sample
from regraft.text.tasks.task import Encode, Task, checked, unit

BLOCK = 2_000  # questions that are answered at a time


@dataclass(frozen=True)
class Analogies(Task):
    """Share of questions (a, b, c, d) whose d is nearest to b - a + c by cosine, a, b and c left out, among all words of the questions.

    Any encoder can be asked so; the usual score takes the answer from its whole vocabulary and is lower. A word without a vector is wrong.
    """

    questions: tuple[tuple[str, str, str, str], ...]

    @property
    def documents(self) -> int:
        return len(self.questions)

    @property
    def texts(self) -> list[str]:
        return [word for question in self.questions for word in question]

    @property
    def needed(self) -> list[tuple[str, ...]]:
        return list(self.questions)

    def measure(self, encode: Encode) -> Sample:
        words = list(dict.fromkeys(chain.from_iterable(self.questions)))
        at = {word: number for number, word in enumerate(words)}
        rows = unit(checked(encode(words, "text"), self.name))
        asked = np.array([[at[word] for word in question] for question in self.questions])
        known = np.asarray(rows.any(1))[asked].all(1)
        right = np.zeros(len(asked))
        for start in range(0, len(asked), BLOCK):
            block = asked[start : start + BLOCK]
            scores = (rows[block[:, 1]] - rows[block[:, 0]] + rows[block[:, 2]]) @ rows.T
            np.put_along_axis(scores, block[:, :3], -np.inf, axis=1)
            right[start : start + BLOCK] = scores.argmax(1) == block[:, 3]
        return Sample.of(right * known)
