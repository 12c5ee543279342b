"""The contract of a tuner: how an encoder learns. It trains a `SentenceTransformer` with that library's trainer and gives one back."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from sentence_transformers import SentenceTransformer

from regraft.method import Method
from regraft.text.fitting import Budget

Kind = Literal["scored", "pairs", "labelled", "texts", "entries"]


class Tuner(Method):
    """Base of every way of training.

    Attributes
    ----------
    takes : kinds of examples that it learns from (see `regraft.text.examples`), the usual one first.
    """

    family = "tuner"
    takes: ClassVar[tuple[Kind, ...]]

    @abstractmethod
    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        """`model` trained on `examples`, a `datasets.Dataset` of a kind in `takes`, within `budget`. `model` itself may change.

        Raises `ParameterError` or `CorpusError` for examples that it cannot learn from.
        """
