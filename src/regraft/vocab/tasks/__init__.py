"""Tasks after a new vocabulary: entity tagging, multi-label coding, classification, compared with the base tokenizer on a user's labels.

`open_task` reads labelled data, `compare_on_task` fine-tunes every vocabulary on shares of it; `start_model` and `fine_tune` do one run,
and `save_task` keeps it.
"""

from regraft.tasks.classification import Classification
from regraft.tasks.coding import Coding, LabelAttention, LabelAttentionCoder
from regraft.tasks.fine_tuning import FineTuning, fine_tune, start_model
from regraft.tasks.labelled.examples import Labelled, LabelledData, Tagged
from regraft.tasks.labelled.named import NAMED, open_named
from regraft.tasks.labelled.readers import open_labelled
from regraft.tasks.saving import load_task, save_task
from regraft.tasks.tagging import Tagging
from regraft.vocab.tasks.arms import ARMS, Subject
from regraft.vocab.tasks.compare import TaskComparison, compare_on_task, open_task
from regraft.vocab.tasks.learning_curve import Curves, Plan, Point

__all__ = [
    "ARMS",
    "NAMED",
    "Classification",
    "Coding",
    "Curves",
    "FineTuning",
    "LabelAttention",
    "LabelAttentionCoder",
    "Labelled",
    "LabelledData",
    "Plan",
    "Point",
    "Subject",
    "Tagged",
    "Tagging",
    "TaskComparison",
    "compare_on_task",
    "fine_tune",
    "load_task",
    "open_labelled",
    "open_named",
    "open_task",
    "save_task",
    "start_model",
]
