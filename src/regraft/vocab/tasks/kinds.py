"""The class of each kind of task."""

from regraft.vocab.tasks.classification import Classification
from regraft.vocab.tasks.coding import Coding
from regraft.vocab.tasks.examples import Kind
from regraft.vocab.tasks.tagging import Tagging
from regraft.vocab.tasks.task import Task

TASKS: dict[Kind, type[Task]] = {"tagging": Tagging, "coding": Coding, "classification": Classification}
