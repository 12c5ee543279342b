"""Distillation: what a student pays for answering otherwise than its teacher."""

from typing import Literal

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax

Reduction = Literal["auto", "numel", "batchmean"]


def soft_distillation(
    student: torch.Tensor, teacher: torch.Tensor, tau: float, reduction: Reduction, rows: int | None = None
) -> torch.Tensor:
    r""":math:`\tau^2\,\mathrm{KL}(\mathrm{softmax}(t/\tau)\,\|\,\mathrm{softmax}(s/\tau))` of logits (n, classes), in nats.

    reduction : "numel" divides the sum by n times classes, as released; "batchmean" by n. rows : n, where these are only some of the rows.
    """
    total = kl_div(log_softmax(student / tau, -1), log_softmax(teacher / tau, -1), reduction="sum", log_target=True) * tau**2
    count = len(student) if rows is None else rows
    return total / (count * student.shape[-1] if reduction == "numel" else count)


def with_labels(
    student: torch.Tensor, distilled: torch.Tensor, labels: torch.Tensor | None, alpha: float, rows: int | None = None
) -> torch.Tensor:
    """``(1 - alpha) * CE + alpha * distilled``; logits (n, classes), labels (n,), -100 for none.

    Without labels, or with ``alpha=1``, only the second.
    """
    if labels is None or alpha == 1:
        return distilled
    count = (labels != -100).sum() if rows is None else rows
    return (1 - alpha) * cross_entropy(student, labels, reduction="sum", ignore_index=-100) / count + alpha * distilled


def hidden_distillation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared error plus one minus the cosine, means over hidden states (n, d)."""
    return (student - teacher).square().mean() + (1 - cosine_similarity(student, teacher, dim=-1)).mean()
