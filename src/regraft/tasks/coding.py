r"""Multi-label coding: any number of labels for a long text, with a label-attention head over chunks of 128 tokens.

The encoder reads each chunk alone; then every label looks over all chunks for what speaks for it. With hidden states :math:`H` of shape
(tokens, d): :math:`Z = \tanh(V H^T)`, :math:`A = \mathrm{softmax}(W Z)`, :math:`\hat y_l = \sigma(u_l \cdot A_l H + b_l)`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModel

from regraft.checkpoint import Checkpoint
from regraft.tasks.labelled.examples import Example
from regraft.tasks.task import Counts, Feature, Task, load_headed, pad, padding_id, quiet

CHUNK = 128
THRESHOLDS = [i / 20 for i in range(1, 20)]
CALIBRATED = 400  # training examples at most from which the threshold is read off


class LabelAttention(torch.nn.Module):
    """Scores of labels from hidden states: shapes (examples, tokens, d) and (examples, tokens) in, (examples, labels) out."""

    def __init__(self, dim: int, labels: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(dim, dim, bias=False)
        self.attend = torch.nn.Linear(dim, labels, bias=False)
        self.score = torch.nn.Linear(dim, labels)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        weights = self.attend(torch.tanh(self.project(hidden_states)))  # (examples, tokens, labels)
        weights = weights.masked_fill(attention_mask.unsqueeze(-1) == 0, torch.finfo(weights.dtype).min).softmax(dim=1)
        seen = weights.transpose(1, 2) @ hidden_states  # (examples, labels, d)
        scores: torch.Tensor = (seen * self.score.weight).sum(-1) + self.score.bias
        return scores


class LabelAttentionCoder(torch.nn.Module):
    """An encoder under `LabelAttention`. `input_ids` and `attention_mask` have shape (examples, chunks, tokens of a chunk)."""

    def __init__(self, encoder: Any, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = LabelAttention(encoder.config.hidden_size, labels)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """`logits` (examples, labels), and with `labels` (the same shape, 0 or 1) the mean binary cross-entropy as `loss`."""
        examples, chunks, size = input_ids.shape
        real = attention_mask.reshape(-1, size).any(dim=1)  # short texts are padded with whole chunks, which need not be read
        flat = input_ids.reshape(-1, size)[real], attention_mask.reshape(-1, size)[real]
        states = self.encoder(input_ids=flat[0], attention_mask=flat[1]).last_hidden_state
        hidden = states.new_zeros(examples * chunks, size, states.shape[-1])
        hidden[real] = states
        logits = self.head(hidden.reshape(examples, chunks * size, -1), attention_mask.reshape(examples, -1))
        if labels is None:
            return {"logits": logits}
        return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype)), "logits": logits}


class Coding(Task):
    """Any of the labels for each text; one threshold for all, read off training examples.

    Parameters
    ----------
    chunk : tokens of a chunk, special tokens included; `max_length` counts the tokens of a text without them.
    """

    kind = "coding"
    metric = "micro-F1"
    default_length = 512

    def __init__(self, labels: Sequence[str], max_length: int | None = None, chunk: int = CHUNK) -> None:
        super().__init__(labels, max_length)
        self.chunk = chunk
        self.threshold = 0.5

    @property
    def window(self) -> int:
        return self.chunk

    def encode(self, encoder: Any, examples: Sequence[Example]) -> list[Feature]:
        """Chunks of ids, each with its special tokens, and the numbers of the labels."""
        self.padding = padding_id(encoder)
        frame = [int(i) for i in encoder("")["input_ids"]]
        before, behind = frame[: (len(frame) + 1) // 2], frame[(len(frame) + 1) // 2 :]
        chunk = min(self.chunk, int(min(encoder.model_max_length, 1 << 30))) - len(frame)
        with quiet():  # texts past the model's length are what chunks are for
            batch = encoder([example.text for example in examples], add_special_tokens=False)["input_ids"]
        features = []
        for row, example in zip(batch, examples, strict=True):
            ids = row[: self.max_length]
            chunks = [[*before, *ids[first : first + chunk], *behind] for first in range(0, max(1, len(ids)), chunk)]
            known = [self.ids[label] for label in example.labels if label in self.ids]
            features.append({"input_ids": [i for part in chunks for i in part], "chunks": chunks, "labels": known})
        return features

    def renumber(self, feature: Feature, places: Mapping[int, int]) -> Feature:
        return super().renumber(feature, places) | {"chunks": [[places[i] for i in chunk] for chunk in feature["chunks"]]}

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        return LabelAttentionCoder(load_headed(AutoModel, checkpoint), len(self.labels))

    def table(self, model: torch.nn.Module) -> Any:
        return cast(LabelAttentionCoder, model).encoder

    def collate(self, features: Sequence[Feature]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (examples, chunks, longest chunk), `labels` (examples, labels) of 0 and 1."""
        most = max(len(feature["chunks"]) for feature in features)
        rows = [chunk for feature in features for chunk in [*feature["chunks"], *[[]] * (most - len(feature["chunks"]))]]
        ids, mask = pad(rows, self.padding), pad([[1] * len(row) for row in rows], 0)
        labels = torch.zeros(len(features), len(self.labels))
        for row, feature in zip(labels, features, strict=True):
            row[feature["labels"]] = 1.0
        shape = len(features), most, -1
        return {"input_ids": ids.reshape(shape), "attention_mask": mask.reshape(shape), "labels": labels}

    def answers(self, logits: torch.Tensor, features: Sequence[Feature]) -> list[torch.Tensor]:
        """Probabilities of the labels, (labels,) an example."""
        return list(logits.sigmoid())

    def calibrate(self, model: torch.nn.Module, features: Sequence[Feature], examples: Sequence[Example]) -> None:
        """Take the threshold with the best micro-F1 on (at most 400) training examples; ties go to the one nearest a half."""
        answers = self.predict(model, features[:CALIBRATED])
        found = []
        for threshold in THRESHOLDS:
            self.threshold = threshold
            tp, fp, fn = self.count(answers, examples[:CALIBRATED]).sum(0).tolist()
            found.append((2 * tp / max(1, 2 * tp + fp + fn), -abs(threshold - 0.5), threshold))
        self.threshold = max(found)[2]

    def count(self, answers: Sequence[Any], examples: Sequence[Example]) -> Counts:
        rows = []
        for probabilities, example in zip(answers, examples, strict=True):
            said = {self.labels[i] for i in torch.nonzero(probabilities >= self.threshold).flatten().tolist()}
            gold = set(example.labels)
            rows.append((len(gold & said), len(said - gold), len(gold - said)))
        return np.array(rows, dtype=np.int64)
