r"""Skip-gram with negative sampling over a vocabulary whose old rows are frozen and whose new rows are softmax mixes of them.

Enters: the frozen tables, the mixes, batches of pairs. Leaves: the loss and the gradients of the mixes' factors, computed for the rows
that a batch mentions and for no others.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import softplus

from regraft.vocab.skipgram import Batch
from regraft.vocab.softmax_rows import SoftmaxRows

Negatives = Literal["standard", "sum_inside"]
Ids = npt.NDArray[np.int64]
CHUNK = 256  # pairs whose rows are gathered at once


@dataclass(frozen=True)
class Side:
    """One table of the model with the mixes that stand for its new rows; `fixed` rows (m, d) stand for them where they are only judged."""

    table: torch.Tensor
    mixes: SoftmaxRows
    fixed: torch.Tensor | None = None


class Vocabulary:
    """Which ids of the new tokenizer are frozen old rows and which are mixes.

    `old` (V,) is the row in the old table or -1, `new` (V,) the number of the mix or -1.
    """

    def __init__(self, source_ids: Ids, new_ids: Ids) -> None:
        self.old = torch.from_numpy(source_ids.copy())
        self.new = torch.full((len(source_ids),), -1)
        self.new[torch.from_numpy(new_ids)] = torch.arange(len(new_ids))


class Vectors:
    """The rows of some ids of one side, with room for their gradients; each mix among them is computed once."""

    def __init__(self, side: Side, vocabulary: Vocabulary, ids: torch.Tensor, lazy: bool = True) -> None:
        self.side, self.vocabulary = side, vocabulary
        mentioned = vocabulary.new[ids]
        self.rows = torch.unique(mentioned[mentioned >= 0]) if lazy else torch.arange(len(side.mixes.left))
        self.place = torch.full((len(side.mixes.left),), -1)
        self.place[self.rows] = torch.arange(len(self.rows))
        self.values = side.mixes.rows(self.rows) if side.fixed is None else side.fixed[self.rows]
        self.slope = torch.zeros_like(self.values)

    def of(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (b, d) of `ids` (b,)."""
        new = self.vocabulary.new[ids]
        out = self.side.table[self.vocabulary.old[ids].clamp(min=0)]
        here = (new >= 0).nonzero()[:, 0]
        out[here] = self.values[self.place[new[here]]]
        return out

    def add_slope(self, ids: torch.Tensor, scale: torch.Tensor, rows: torch.Tensor) -> None:
        """Add `scale` (b,) times `rows` (b, d) to the loss's slope in the rows of the new tokens `ids` (b,)."""
        self.slope.index_add_(0, self.place[self.vocabulary.new[ids]], scale[:, None] * rows)

    def new_among(self, ids: torch.Tensor) -> torch.Tensor:
        return (self.vocabulary.new[ids] >= 0).nonzero()[:, 0]


def loss_and_slopes(
    batch: Batch, vocabulary: Vocabulary, given: Side, sought: Side, negatives: Negatives, lazy: bool = True
) -> tuple[float, list[Vectors]]:
    r"""Mean over pairs of :math:`-\log\sigma(u_o w_c) - \sum_k \log\sigma(-u_k w_c)`, and where its slopes lie.

    `given` holds the rows of centers and `sought` those of contexts; they are the same side in a tied model, and then share their slopes.
    "sum_inside" replaces the second term by :math:`-\log\sigma(-\sum_k u_k w_c)`.
    """
    centers, contexts, noise = (torch.from_numpy(part) for part in (batch.centers, batch.contexts, batch.negatives))
    if given is sought:
        w = u = Vectors(given, vocabulary, torch.cat([centers, contexts, noise.reshape(-1)]), lazy)
    else:
        w, u = Vectors(given, vocabulary, centers, lazy), Vectors(sought, vocabulary, torch.cat([contexts, noise.reshape(-1)]), lazy)
    total = 0.0
    for start in range(0, len(centers), CHUNK):
        part = slice(start, start + CHUNK)
        total += _add_pairs(w, u, centers[part], contexts[part], noise[part], negatives, len(centers))
    return total, [w] if w is u else [w, u]


def _add_pairs(
    w: Vectors, u: Vectors, centers: torch.Tensor, contexts: torch.Tensor, noise: torch.Tensor, negatives: Negatives, pairs: int
) -> float:
    """The share of some of a batch's pairs in its mean loss; their slopes are added."""
    center, context = w.of(centers), u.of(contexts)
    flat = noise.reshape(-1)
    drawn = u.of(flat).view(*noise.shape, -1)
    hit = (center * context).sum(dim=1)
    miss = torch.bmm(drawn, center[:, :, None])[:, :, 0]
    if negatives == "sum_inside":
        inside = miss.sum(dim=1)
        loss, pull = softplus(-hit) + softplus(inside), torch.sigmoid(inside)[:, None].expand_as(miss)
    else:
        loss, pull = softplus(-hit) + softplus(miss).sum(dim=1), torch.sigmoid(miss)
    push, pull = (torch.sigmoid(hit) - 1) / pairs, pull / pairs
    new = w.new_among(centers)  # a frozen center has no slope
    toward = push[new, None] * context[new] + torch.bmm(pull[new, None], drawn[new])[:, 0]
    w.add_slope(centers[new], torch.ones(len(new), dtype=toward.dtype), toward)
    new = u.new_among(contexts)
    u.add_slope(contexts[new], push[new], center[new])
    new = u.new_among(flat)
    u.add_slope(flat[new], pull.reshape(-1)[new], center[new // noise.shape[1]])
    return float(loss.sum()) / pairs


def mean_loss(batches: list[Batch], vocabulary: Vocabulary, given: Side, sought: Side, negatives: Negatives) -> float:
    """The loss over fixed batches."""
    pairs = sum(len(batch.centers) for batch in batches)
    return sum(loss_and_slopes(batch, vocabulary, given, sought, negatives)[0] * len(batch.centers) for batch in batches) / max(1, pairs)


def set_gradients(vectors: Vectors) -> None:
    """Put the gradients of the factors into `left.grad` and `right.grad`."""
    mixes = vectors.side.mixes
    left, right = mixes.gradients(vectors.rows, vectors.values, vectors.slope)
    mixes.left.grad = torch.zeros_like(mixes.left)
    mixes.left.grad[vectors.rows] = left
    mixes.right.grad = right
