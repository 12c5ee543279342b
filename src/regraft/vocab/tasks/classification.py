"""Sequence classification: one label a text through `AutoModelForSequenceClassification`, scored by micro-F1 (accuracy)."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from regraft.checkpoint import Checkpoint
from regraft.vocab.tasks.examples import Example
from regraft.vocab.tasks.task import Counts, Feature, Task, encoded, load_headed, pad, padding_id


class Classification(Task):
    """One of the labels for each text."""

    kind = "classification"
    metric = "micro-F1"
    default_length = 128

    def encode(self, encoder: Any, examples: Sequence[Example]) -> list[Feature]:
        """Ids, and the number of the label; one that training never shows is never asked for in a loss, so it gets 0."""
        self.padding = padding_id(encoder)
        batch = encoded(encoder, [example.text for example in examples], self.max_length)
        return [
            {"input_ids": ids, "labels": self.ids.get(example.labels[0], 0)}
            for ids, example in zip(batch["input_ids"], examples, strict=True)
        ]

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        return cast(torch.nn.Module, load_headed(AutoModelForSequenceClassification, checkpoint, **self.numbering))

    def collate(self, features: Sequence[Feature]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (examples, longest), `labels` (examples,)."""
        ids = [feature["input_ids"] for feature in features]
        return {
            "input_ids": pad(ids, self.padding),
            "attention_mask": pad([[1] * len(row) for row in ids], 0),
            "labels": torch.tensor([feature["labels"] for feature in features]),
        }

    def answers(self, logits: torch.Tensor, features: Sequence[Feature]) -> list[str]:
        """The label of each example, from logits of shape (examples, labels)."""
        return [self.labels[i] for i in logits.argmax(-1).tolist()]

    def count(self, answers: Sequence[Any], examples: Sequence[Example]) -> Counts:
        """A wrong label is one made up and one missed."""
        right = np.array([said == example.labels[0] for said, example in zip(answers, examples, strict=True)], dtype=np.int64)
        return np.stack([right, 1 - right, 1 - right], axis=1)
