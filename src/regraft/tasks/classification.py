"""Sequence classification: one label a text, scored by micro-F1 (accuracy).

A plain encoder gets the head of `AutoModelForSequenceClassification`. A sentence-transformers model that was trained to be read by the mean
of its tokens is read that way here too: its first token was never trained to stand for a text, and few labels cannot teach it.
"""

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from regraft.checkpoint import Checkpoint
from regraft.tasks.labelled.examples import Example
from regraft.tasks.task import Counts, Feature, Task, encoded, load_headed, pad, padding_id


class MeanPooledClassifier(torch.nn.Module):
    """A linear head on the mean of an encoder's real tokens; `input_ids` and `attention_mask` have shape (examples, tokens)."""

    def __init__(self, encoder: Any, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = torch.nn.Dropout(getattr(encoder.config, "hidden_dropout_prob", 0.1))
        self.score = torch.nn.Linear(encoder.config.hidden_size, labels)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """`logits` (examples, labels), and with `labels` (examples,) the mean cross-entropy as `loss`."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        real = attention_mask.unsqueeze(-1).to(states.dtype)
        logits = self.score(self.dropout((states * real).sum(1) / real.sum(1)))
        if labels is None:
            return {"logits": logits}
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def reads_by_mean(checkpoint: Checkpoint) -> bool:
    """Whether the folder is a sentence-transformers model with mean pooling."""
    try:
        modules = json.loads((checkpoint.root / "modules.json").read_text("utf-8"))
        folder = next(module["path"] for module in modules if module["type"].endswith("Pooling"))
        pooling = json.loads((checkpoint.root / folder / "config.json").read_text("utf-8"))
        return pooling.get("pooling_mode") == "mean" or pooling.get("pooling_mode_mean_tokens") is True
    except (OSError, ValueError, StopIteration, KeyError, TypeError, AttributeError):
        return False


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
        if reads_by_mean(checkpoint):
            return MeanPooledClassifier(load_headed(AutoModel, checkpoint), len(self.labels))
        return cast(torch.nn.Module, load_headed(AutoModelForSequenceClassification, checkpoint, **self.numbering))

    def table(self, model: torch.nn.Module) -> Any:
        return model.encoder if isinstance(model, MeanPooledClassifier) else model

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
