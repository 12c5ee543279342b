"""The AUC of pairs kept apart, looked at now and then: training ends where it no longer rises, and the best weights come back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sklearn.metrics import roc_auc_score
from transformers import TrainerCallback

from regraft.text.tasks.task import encoder, unit
from regraft.text.tuners.sesa.groups import Group


class Watch(TrainerCallback):
    """Looks every `every` steps and ends training after `patience` looks without a gain."""

    def __init__(self, model: SentenceTransformer, groups: Sequence[Group], every: int, patience: int) -> None:
        self.model, self.groups, self.every, self.patience = model, groups, every, patience
        self.seen: list[float] = []
        self.best: dict[str, torch.Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every:
            return
        self.seen.append(auc(self.model, self.groups))
        self.model.train()
        at = int(np.argmax(self.seen))
        if at == len(self.seen) - 1:
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        elif len(self.seen) - 1 - at >= self.patience:
            control.should_training_stop = True

    def restore(self) -> None:
        if self.best:
            self.model.load_state_dict(self.best)

    def told(self) -> str:
        return " ".join(f"{value:.3f}" for value in self.seen) or "never looked at"


def auc(model: SentenceTransformer, groups: Sequence[Group]) -> float:
    """Area under the curve of cosines over all pairs of an anchor and one of its others; scores from a half on are positives."""
    left, right, truth = [], [], []
    for group in groups:
        for place, other in enumerate(group.others):
            left.append(group.anchor)
            right.append(other)
            truth.append(place == 0 and group.score >= 0.5)
    scores = cosines(model, left, right)
    return float(roc_auc_score(truth, scores)) if 0 < sum(truth) < len(truth) else float("nan")


def cosines(model: SentenceTransformer, left: Sequence[str], right: Sequence[str]) -> Any:
    """Of each pair (n,); every text is encoded once a side."""
    encode = encoder(model, 256)
    sides = []
    for texts, role in ((left, "query"), (right, "document")):
        own = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        sides.append(unit(encode(list(own), role))[[own[text] for text in texts]])  # type: ignore[arg-type]  # one of its roles
    return (sides[0] * sides[1]).sum(1)
