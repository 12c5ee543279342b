"""The contract of a method that teaches a concept: pictures and a starting word in, a concept out.

Enters: a `Lesson`. Leaves: `Learned`: the concept, how its loss went, and what the method says of it. Methods that learn rows share
`learn_rows` and `descend` (learning.py); all of them draw and are judged alike, through `Concept`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from regraft.concepts.concept import Concept
from regraft.concepts.host.captions import Kind, known, templates
from regraft.concepts.host.images import Pictures
from regraft.method import Method


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is to be learned.

    Attributes
    ----------
    pipeline : frozen. pictures : of the concept. word : its new name. init : a word or phrase that it is a case of.
    kind : what captions speak of. sentences : captions with one ``{}`` in place of those of `kind`.
    """

    pipeline: Any
    pictures: Pictures
    word: str
    init: str
    kind: Kind = "object"
    sentences: Sequence[str] | None = None

    def captions(self) -> list[str]:
        """Sentences with a place for the word, all of whose words the pipeline knows."""
        return known(self.pipeline, list(self.sentences or templates(self.kind)), self.init)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to learn. `steps` : None, the method's own. `state` : folder from which a stopped run goes on. `accumulate` : batches a step."""

    steps: int | None = None
    seed: int = 0
    state: Path | None = None
    accumulate: int = 1


@dataclass(frozen=True, eq=False)
class Learned:
    """A concept and how it was learned. `curve` : (step, loss). `facts` : plain numbers for a row. `stopped` : why it ended early."""

    concept: Concept
    parameters: int
    curve: list[tuple[float, float]] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None


class ConceptMethod(Method):
    """Base of every method that teaches a concept.

    Attributes
    ----------
    steps : of the optimizer, where the plan says nothing. batch : images a step. lr : its learning rate, constant.

    Returns, by `learn`, the concept and how it was learned.
    """

    family = "concept-method"
    steps: PositiveInt
    batch: PositiveInt
    lr: PositiveFloat

    @abstractmethod
    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        """Teach the concept of `lesson`. The pipeline is as it was when this returns."""
