"""What the three tasks have in common: examples become features, a checkpoint becomes a model with a head, outputs become counts.

The same task object serves every vocabulary that is compared: only the encoder (a `transformers` tokenizer, or a `KTokeniser`) and the
rows of the input table differ.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import transformers

from regraft.checkpoint import Checkpoint
from regraft.errors import TaskError
from regraft.tasks.labelled.examples import Example, Kind, LabelledData

Feature = dict[str, Any]  # what one example is to a model: `input_ids` and labels, lists of numbers
Counts = npt.NDArray[np.int64]  # (examples, 3): true positives, false positives, false negatives
IGNORED = -100  # the label that the cross-entropy of PyTorch leaves out


class Task(ABC):
    """One kind of task on given labels.

    Parameters
    ----------
    labels : of the training side; a prediction is one of them.
    max_length : tokens of a text, special tokens included; what is behind them is not read.
    """

    kind: ClassVar[Kind]
    metric: ClassVar[str]
    default_length: ClassVar[int]

    def __init__(self, labels: Sequence[str], max_length: int | None = None) -> None:
        self.labels = list(labels)
        self.ids = {label: i for i, label in enumerate(self.labels)}
        self.max_length = max_length or self.default_length
        self.padding = 0

    @property
    def window(self) -> int:
        """Tokens that the encoder reads at once, at most."""
        return self.max_length

    @classmethod
    def of(cls, data: LabelledData, max_length: int | None = None) -> "Task":
        """The task that `data` poses."""
        return cls(data.labels, max_length)

    @abstractmethod
    def encode(self, encoder: Any, examples: Sequence[Example]) -> list[Feature]:
        """Each example in tokens of `encoder`."""

    @abstractmethod
    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """The encoder of `checkpoint` under a fresh head, which depends on PyTorch's seed alone."""

    @abstractmethod
    def collate(self, features: Sequence[Feature]) -> dict[str, torch.Tensor]:
        """One padded batch."""

    @abstractmethod
    def answers(self, logits: torch.Tensor, features: Sequence[Feature]) -> list[Any]:
        """What the outputs of one batch say of each example."""

    @abstractmethod
    def count(self, answers: Sequence[Any], examples: Sequence[Example]) -> Counts:
        """How many labels of each example were found, made up and missed."""

    def calibrate(self, model: torch.nn.Module, features: Sequence[Feature], examples: Sequence[Example]) -> None:
        """Settle on training examples what a decision still needs; nothing in most tasks."""
        return

    def table(self, model: torch.nn.Module) -> Any:
        """The part of `model` that holds the input table."""
        return model

    def renumber(self, feature: Feature, places: Mapping[int, int]) -> Feature:
        """The feature with the place of each id in a smaller table."""
        return feature | {"input_ids": [places[i] for i in feature["input_ids"]]}

    @property
    def numbering(self) -> dict[str, dict[Any, Any]]:
        """The names of the outputs, as a `transformers` config keeps them."""
        return {"id2label": dict(enumerate(self.labels)), "label2id": dict(self.ids)}

    def predict(self, model: torch.nn.Module, features: Sequence[Feature], batch_size: int = 32) -> list[Any]:
        """Answers to every example, in order; texts of one length go through the model together."""
        device = next(model.parameters()).device
        order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
        found: list[Any] = [None] * len(features)
        model.eval()
        with torch.inference_mode():
            for first in range(0, len(order), batch_size):
                places = order[first : first + batch_size]
                part = [features[i] for i in places]
                batch = {name: tensor.to(device) for name, tensor in self.collate(part).items() if name != "labels"}
                output = model(**batch)
                for place, answer in zip(places, self.answers(output["logits"].float().cpu(), part), strict=True):
                    found[place] = answer
        return found


def check_encoder(checkpoint: Checkpoint) -> None:
    """Raise `TaskError` unless the checkpoint is an encoder."""
    if checkpoint.layout.kind != "encoder":
        kind = checkpoint.layout.kind
        raise TaskError(f"{checkpoint.path}: tasks fine-tune an encoder, and this is {article(kind)}: give a BERT-type model")


def article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without what `transformers` says of a head that is fresh on purpose."""
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(before)


def load_headed(auto_class: Any, checkpoint: Checkpoint, **config: Any) -> Any:
    """The checkpoint in float32 as one of the `transformers` classes with a head, whose fresh weights follow PyTorch's seed."""
    with quiet():
        try:
            return auto_class.from_pretrained(checkpoint.path, dtype=torch.float32, local_files_only=True, **config)
        except ValueError as error:
            name = getattr(auto_class, "__name__", "the task")
            raise TaskError(f"{checkpoint.path}: transformers has no {name} for it ({str(error).splitlines()[0][:80]})") from None


def pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Rows of numbers filled up to one length, shape (rows, longest)."""
    size = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (size - len(row))] for row in rows])


def padding_id(encoder: Any) -> int:
    """The id that fills batches up; where the tokenizer has none, 0, which the attention mask hides."""
    found = encoder.pad_token_id
    return 0 if found is None else int(found)


def encoded(encoder: Any, texts: Any, limit: int, **options: Any) -> Any:
    """Ids of many texts, cut at `limit` tokens or where the model ends."""
    most = min(limit, int(min(encoder.model_max_length, 1 << 30)))
    return encoder(texts, truncation=True, max_length=most, **options)
