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


@dataclass(frozen=True)
class Side:
    """One table of the model with the mixes that stand for its new rows."""

    table: torch.Tensor
    mixes: SoftmaxRows


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
        self.values = side.mixes.rows(self.rows)
        self.slope = torch.zeros_like(self.values)

    def of(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (b, d) of `ids` (b,)."""
        new = self.vocabulary.new[ids]
        out = self.side.table[self.vocabulary.old[ids].clamp(min=0)]
        out[new >= 0] = self.values[self.place[new[new >= 0]]]
        return out

    def add_slope(self, ids: torch.Tensor, scale: torch.Tensor, rows: torch.Tensor) -> None:
        """Add `scale` (b,) times `rows` (b, d), the loss's slope in the rows of `ids`, of which only new ones have any."""
        new = self.vocabulary.new[ids]
        here = (new >= 0).nonzero()[:, 0]
        self.slope.index_add_(0, self.place[new[here]], scale[here, None] * rows[here])

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
    center, context = w.of(centers), u.of(contexts)
    drawn = u.of(noise.reshape(-1)).view(*noise.shape, -1)
    hit = (center * context).sum(dim=1)
    miss = torch.bmm(drawn, center[:, :, None])[:, :, 0]
    if negatives == "sum_inside":
        total = miss.sum(dim=1)
        loss, pull = softplus(-hit) + softplus(total), torch.sigmoid(total)[:, None].expand_as(miss)
    else:
        loss, pull = softplus(-hit) + softplus(miss).sum(dim=1), torch.sigmoid(miss)
    push, pull = (torch.sigmoid(hit) - 1) / len(hit), pull / len(hit)
    new = w.new_among(centers)  # a frozen center has no slope
    toward = push[new, None] * context[new] + torch.bmm(pull[new, None], drawn[new])[:, 0]
    w.add_slope(centers[new], torch.ones(len(new), dtype=toward.dtype), toward)
    u.add_slope(contexts, push, center)
    flat = noise.reshape(-1)
    new = u.new_among(flat)
    u.add_slope(flat[new], pull.reshape(-1)[new], center[new // noise.shape[1]])
    return float(loss.mean()), [w] if w is u else [w, u]


def mean_loss(batches: list[Batch], vocabulary: Vocabulary, given: Side, sought: Side, negatives: Negatives) -> float:
    """The loss over fixed batches."""
    pairs = sum(len(batch.centers) for batch in batches)
    return sum(loss_and_slopes(batch, vocabulary, given, sought, negatives)[0] * len(batch.centers) for batch in batches) / max(1, pairs)


def set_gradients(vectors: Vectors) -> None:
    """Put the gradients of the factors into `left.grad` and `right.grad`."""
    mixes = vectors.side.mixes
    left, right = mixes.gradients(vectors.rows, vectors.slope)
    mixes.left.grad = torch.zeros_like(mixes.left)
    mixes.left.grad[vectors.rows] = left
    mixes.right.grad = right
