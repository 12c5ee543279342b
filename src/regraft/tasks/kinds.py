"""The class of each kind of task."""

from regraft.tasks.classification import Classification
from regraft.tasks.coding import Coding
from regraft.tasks.labelled.examples import Kind
from regraft.tasks.tagging import Tagging
from regraft.tasks.task import Task

TASKS: dict[Kind, type[Task]] = {"tagging": Tagging, "coding": Coding, "classification": Classification}
