"""What the auxiliary network is asked, a batch a step, and how its answer is held against the teacher's.

Language models: their logits over blocks of packed text, computed head by head block so that a batch's logits never exist together. All
others: logits of their own head (classes), or hidden states where they have none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from regraft.grow.depth.learned.losses import Reduction, hidden_distillation, soft_distillation, with_labels
from regraft.language.model import LanguageModel
from regraft.training.objectives import mask_tokens
from regraft.training.packing import Stream

Batches = Callable[[int], Mapping[str, torch.Tensor]]  # what a model takes by name at a step; "labels" and "attention_mask" if there are


@dataclass(frozen=True, kw_only=True)
class Soft:
    """Weights of the loss: `alpha` of the teacher against labels, temperature `tau`, and what the divergence is divided by."""

    alpha: float
    tau: float
    reduction: Reduction


class Objective(Protocol):
    """`data` identifies what is read; `unit` is that of the loss."""

    data: str
    unit: str

    def backward(self, step: int) -> float:
        """Add the gradient of one batch to the student's parameters; the loss of it, for the curve."""
        ...


class LanguageObjective:
    """Next (or masked) tokens, distilled from logits at every token; packed text has no padding. The loss is told in nats a token."""

    unit = "nats a token"

    def __init__(self, student: LanguageModel, teacher: LanguageModel, stream: Stream, batch: int, soft: Soft, seed: int) -> None:
        self.student, self.teacher, self.stream, self.batch, self.soft, self.seed = student, teacher, stream, batch, soft, seed
        self.data = _hash(stream.packed.ids.tobytes())

    def backward(self, step: int) -> float:
        drawn, _ = self.stream.blocks(step * self.batch, self.batch)
        asked, ids, labels = drawn, torch.from_numpy(drawn), torch.full(drawn.shape, -100)
        if self.student.kind == "masked":
            asked, hidden = mask_tokens(drawn, self.student, np.random.default_rng([self.seed, 3, step]))
            labels[torch.from_numpy(hidden)] = ids[torch.from_numpy(hidden)]
        else:
            labels[:, :-1] = ids[:, 1:]
        seen = torch.from_numpy(asked).to(self.student.device)
        with torch.no_grad():
            told = self.teacher.hidden(seen).flatten(0, 1)
        states = self.student.hidden(seen)
        border = states.detach().requires_grad_()
        total = self._through_head(border.flatten(0, 1), told, labels.flatten().to(self.student.device))
        torch.autograd.backward(states, border.grad)
        return total

    def _through_head(self, states: torch.Tensor, told: torch.Tensor, labels: torch.Tensor) -> float:
        leaf = states.detach().requires_grad_()
        rows, size, total = len(states), self.student.block(), 0.0
        counted = max(1, int((labels != -100).sum()))
        reduction: Reduction = "batchmean" if self.soft.reduction == "auto" else self.soft.reduction
        for start in range(0, rows, size):
            part = slice(start, start + size)
            with torch.no_grad():
                target = self.teacher.logits(told[part]).float()
            logits = self.student.logits(leaf[part]).float()
            distilled = soft_distillation(logits, target, self.soft.tau, reduction, rows)
            torch.autograd.backward(with_labels(logits, distilled, labels[part], self.soft.alpha, counted))
            total += float(distilled.detach()) * (logits.shape[-1] if reduction == "numel" else 1)
        torch.autograd.backward(states, leaf.grad)
        return total


class AnswerObjective:
    """Class logits by soft distillation, hidden states by squared error and cosine."""

    def __init__(self, student: Any, teacher: Any, batches: Batches, data: str, soft: Soft) -> None:
        self.student, self.teacher, self.batches, self.data, self.soft = student, teacher, batches, data, soft
        self.unit = ""

    def backward(self, step: int) -> float:
        batch = {name: tensor.to(self.student.device) for name, tensor in self.batches(step).items()}
        labels = batch.pop("labels", None)
        with torch.no_grad():
            told = self.teacher(**batch)
        answer = self.student(**batch)
        classes = getattr(answer, "logits", None)
        self.unit = "squared error + 1 - cosine" if classes is None else "nats an example"
        if classes is None:
            mask = batch.get("attention_mask", torch.ones(answer.last_hidden_state.shape[:2], device=self.student.device)).bool()
            loss = hidden_distillation(answer.last_hidden_state[mask].float(), told.last_hidden_state[mask].float())
            torch.autograd.backward(loss)
            return float(loss.detach())
        reduction: Reduction = "numel" if self.soft.reduction == "auto" else self.soft.reduction
        distilled = soft_distillation(classes.float(), told.logits.float(), self.soft.tau, reduction)
        torch.autograd.backward(with_labels(classes.float(), distilled, labels, self.soft.alpha))
        return float(distilled.detach()) * (classes.shape[-1] if reduction == "numel" else 1)


def _hash(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()[:16]
