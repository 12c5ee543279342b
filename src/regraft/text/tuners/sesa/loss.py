"""SESA's losses over one shared or two encoders: relevance of pairs, known concepts of each object, sparsity.

Enters: columns of texts (an anchor, what it is compared to), and with each row a score and the places of its texts in the knowledge base.
Leaves: the terms of the loss by name, as the trainer adds them up.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from scipy.sparse import csr_array
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, log_softmax, relu, softplus

Relevance = Literal["bce", "logistic", "hinge"]
Activation = Literal["sigmoid", "relu", "softmax"]
NOWHERE = -1  # a text that the knowledge base does not know


class Targets:
    r"""What is known of objects: y (N, K), and the weight of each unit in the loss.

    A concept that an object has weighs `positive`, one that it is known not to have 1, any other `unknown`; an object without a known
    concept weighs nothing, for absence is no negative.
    """

    def __init__(self, has: csr_array, lacks: csr_array, *, positive: float = 1.0, unknown: float = 0.1) -> None:
        self.has, self.lacks, self.positive, self.unknown = has, lacks, positive, unknown
        counts = has.sum(1)
        self.labelled = torch.from_numpy(counts > 0)
        self.per_object = float(counts[counts > 0].mean()) if (counts > 0).any() else 1.0

    @property
    def concepts(self) -> int:
        return int(self.has.shape[1])

    def at(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """y and weights (B, K) of objects by place; `NOWHERE` weighs nothing."""
        places = rows.clamp(min=0).cpu()
        y, absent = (torch.from_numpy(table[places.numpy()].toarray()) for table in (self.has, self.lacks))
        weights = torch.where(y > 0, self.positive, torch.where(absent > 0, 1.0, self.unknown))
        seen = (rows.cpu() >= 0) & self.labelled[places]
        return y.to(rows.device), (weights * seen[:, None]).to(rows.device)


class SesaLoss(nn.Module):
    r""":math:`L_{rel} + \lambda L_{con} + \mu \|s\|_1`, or, while `ranking` is False, :math:`L_{con}` alone.

    :math:`r = \cos(s_a, s_b)`. "bce": cross-entropy of :math:`\sigma(\alpha r + \beta)` with the score. "logistic":
    :math:`\log(1 + e^{-\alpha (r^+ - r^-)})`, "hinge": :math:`\max(0, m - (r^+ - r^-))`, over each negative. :math:`L_{con} = \frac{K}{c}`
    mean over k of :math:`w_k BCE(\sigma(z_k), y_k)`, c the mean number of concepts an object has; of softmax units the cross-entropy with
    the known concepts in equal parts.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        layers: list[Dense],
        targets: Targets,
        *,
        relevance: Relevance = "bce",
        activation: Activation = "sigmoid",
        concept_weight: float = 1.0,
        sparsity: float = 0.0,
        alpha: float = 5.0,
        beta: float = -2.0,
        margin: float = 0.2,
    ) -> None:
        super().__init__()
        self.model, self.targets, self.relevance, self.activation = model, targets, relevance, activation
        self.concept_weight, self.sparsity, self.margin = concept_weight, sparsity, margin
        self.alpha, self.beta = nn.Parameter(torch.tensor(alpha)), nn.Parameter(torch.tensor(beta))
        self.ranking = True
        self._logits: list[torch.Tensor] = []
        self._hooks = [layer.linear.register_forward_hook(lambda _, given, found: self._logits.append(found)) for layer in layers]

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor) -> dict[str, torch.Tensor]:
        self._logits.clear()
        vectors = [self.model(features)["sentence_embedding"] for features in sentence_features]
        logits = torch.cat(self._logits)
        self._logits.clear()
        places = labels[:, 1:].T.reshape(-1).long()  # column by column, as the logits are
        if not self.ranking:
            return {"concepts": self.concept_loss(logits, places)}
        terms = {"relevance": self.relevance_loss(vectors[0], vectors[1:], labels[:, 0])}
        if self.concept_weight > 0:
            terms["concepts"] = self.concept_weight * self.concept_loss(logits, places)
        if self.sparsity > 0:
            terms["sparsity"] = self.sparsity * torch.cat(vectors).abs().sum(1).mean()
        return terms

    def relevance_loss(self, anchor: torch.Tensor, others: list[torch.Tensor], scores: torch.Tensor) -> torch.Tensor:
        """The first of `others` has the scores, the rest are negatives."""
        cosines = torch.stack([cosine_similarity(anchor, other) for other in others], dim=1)
        if self.relevance == "bce":
            wanted = torch.zeros_like(cosines)
            wanted[:, 0] = scores
            return binary_cross_entropy_with_logits(self.alpha * cosines + self.beta, wanted)
        gaps = cosines[:, :1] - cosines[:, 1:]
        return softplus(-self.alpha * gaps).mean() if self.relevance == "logistic" else relu(self.margin - gaps).mean()

    def concept_loss(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Over the objects of the batch of which concepts are known; 0 where there is none."""
        y, weights = self.targets.at(rows)
        seen = weights.sum(1) > 0
        if not seen.any():
            return logits.sum() * 0
        logits, y, weights = logits[seen], y[seen], weights[seen]
        if self.activation == "softmax":
            return -(y / y.sum(1, keepdim=True) * log_softmax(logits, dim=1)).sum(1).mean()
        loss = binary_cross_entropy_with_logits(logits, y, weight=weights, reduction="none")
        return loss.mean() * self.targets.concepts / self.targets.per_object

    def release(self) -> None:
        """Take the hooks off the layers."""
        for hook in self._hooks:
            hook.remove()
