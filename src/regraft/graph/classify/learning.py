"""What node classifiers share: smoothing over edges, and full-batch training that keeps the best state."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, nll_loss

from regraft.graph.classify.classifier import Classified, Nodes, Rows
from regraft.graph.edges import Graph


def smoothing(graph: Graph) -> Tensor:
    """(n, n) sparse CSR: edges and a loop a node, divided by the square roots of both degrees (Kipf & Welling 2017, section 2)."""
    import scipy.sparse as sp

    looped = sp.csr_array(graph.adjacency + sp.eye_array(graph.size, dtype=np.float32, format="csr"))
    scale = 1 / np.sqrt(looped.sum(1))
    found = sp.csr_array(looped.multiply(scale[:, None]).multiply(scale[None, :])).astype(np.float32)
    return torch.sparse_csr_tensor(
        torch.from_numpy(found.indptr.astype(np.int64)),
        torch.from_numpy(found.indices.astype(np.int64)),
        torch.from_numpy(found.data),
        found.shape,
    )


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """(classes,) n / (classes present x nodes of the class): rare classes weigh as much as frequent ones; 0 for one without a node."""
    counts = torch.bincount(labels, minlength=classes).float()
    return torch.where(counts > 0, len(labels) / (counts.clamp(min=1) * (counts > 0).sum()), torch.zeros(()))


@dataclass(frozen=True)
class Schedule:
    """At most `epochs` of Adam with `rate` and weight `decay`, ended after `patience` of them without a better loss on validation nodes."""

    epochs: int
    rate: float
    decay: float
    patience: int
    balanced: bool = True


def learn(model: nn.Module, nodes: Nodes, train: Rows, validation: Rows, how: Schedule) -> Classified:
    """Train `model` (called without arguments, gives (n, classes) scores) on all `train` nodes at once; keep a copy of the best state."""
    labels = torch.from_numpy(nodes.labels)
    here, there = torch.from_numpy(train), torch.from_numpy(validation)
    weights = class_weights(labels[here], len(nodes.classes)) if how.balanced else None
    optimizer = torch.optim.Adam(model.parameters(), lr=how.rate, weight_decay=how.decay)
    best, kept, curve, since = float("inf"), copy.deepcopy(model.state_dict()), [], 0
    for epoch in range(1, how.epochs + 1):
        model.train()
        optimizer.zero_grad()
        nll_loss(log_softmax(model()[here], 1), labels[here], weights).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss = float(nll_loss(scored(model)[there], labels[there]))
        curve.append((float(epoch), loss))
        since = 0 if loss < best else since + 1
        if loss < best:
            best, kept = loss, copy.deepcopy(model.state_dict())
        if since >= how.patience:
            break
    model.load_state_dict(kept)
    return Classified(scored(model).numpy(), curve, model, {"epochs": float(len(curve))})


@torch.no_grad()
def scored(model: Any) -> Tensor:
    """(n, classes) log-probabilities."""
    model.eval()
    return log_softmax(model(), 1)
