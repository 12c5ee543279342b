"""Classification: what a linear model finds in frozen vectors."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from regraft.evaluation.paired import Sample
from regraft.text.tasks.task import Encode, Task, checked, unit


@dataclass(frozen=True)
class Labels(Task):
    """Accuracy of logistic regression that learned on `train` (text, label) and is asked on `test`, vectors at unit length."""

    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]

    @property
    def documents(self) -> int:
        return len(self.test)

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.test]

    def measure(self, encode: Encode) -> Sample:
        sides = [unit(checked(encode([text for text, _ in side], "text"), self.name)) for side in (self.train, self.test)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=10.0, max_iter=500).fit(sides[0], [label for _, label in self.train])
        found = model.predict(sides[1])
        return Sample.of(np.array([label == said for (_, label), said in zip(self.test, found, strict=True)], dtype=np.float64))
