"""Entity tagging: a label a word through `AutoModelForTokenClassification`, scored by exact spans."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForTokenClassification

from regraft.checkpoint import Checkpoint
from regraft.tasks.labelled.examples import OUTSIDE, Example, LabelledData, Tagged
from regraft.tasks.spans import count_exact
from regraft.tasks.task import IGNORED, Counts, Feature, Task, encoded, load_headed, pad, padding_id


class Tagging(Task):
    """Every piece of a word learns the word's tag, special tokens none; the first piece of a word speaks for it.

    A word that gets no token (its characters were normalized away, or it stands behind `max_length`) is outside.
    """

    kind = "tagging"
    metric = "span F1"
    default_length = 256

    @classmethod
    def of(cls, data: LabelledData, max_length: int | None = None) -> "Tagging":
        return cls([OUTSIDE, *data.labels], max_length)

    def encode(self, encoder: Any, examples: Sequence[Example]) -> list[Feature]:
        """Ids, the tag of each token (-100 on special ones), and the first token of each word (-1: it has none)."""
        self.padding = padding_id(encoder)
        sentences = cast("Sequence[Tagged]", examples)
        batch = encoded(encoder, [list(sentence.words) for sentence in sentences], self.max_length, is_split_into_words=True)
        features = []
        for place, sentence in enumerate(sentences):
            words = batch.word_ids(place)
            tags = [self.ids.get(tag, 0) for tag in sentence.tags]  # a tag that training never shows can only be missed
            firsts = [-1] * len(sentence.words)
            for token in reversed(range(len(words))):
                if words[token] is not None:
                    firsts[words[token]] = token
            labels = [IGNORED if word is None else tags[word] for word in words]
            features.append({"input_ids": batch["input_ids"][place], "labels": labels, "firsts": firsts})
        return features

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        return cast(torch.nn.Module, load_headed(AutoModelForTokenClassification, checkpoint, **self.numbering))

    def collate(self, features: Sequence[Feature]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels`, each (examples, longest)."""
        ids = [feature["input_ids"] for feature in features]
        return {
            "input_ids": pad(ids, self.padding),
            "attention_mask": pad([[1] * len(row) for row in ids], 0),
            "labels": pad([feature["labels"] for feature in features], IGNORED),
        }

    def answers(self, logits: torch.Tensor, features: Sequence[Feature]) -> list[list[str]]:
        """Tags of the words of each example, from logits of shape (examples, tokens, tags)."""
        best = logits.argmax(-1).tolist()
        return [
            [OUTSIDE if first < 0 else self.labels[row[first]] for first in feature["firsts"]]
            for row, feature in zip(best, features, strict=True)
        ]

    def count(self, answers: Sequence[Any], examples: Sequence[Example]) -> Counts:
        sentences = cast("Sequence[Tagged]", examples)
        return np.array([count_exact(gold.tags, said) for gold, said in zip(sentences, answers, strict=True)], dtype=np.int64)
