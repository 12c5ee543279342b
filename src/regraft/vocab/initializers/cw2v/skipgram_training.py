r"""Skip-gram with negative sampling over a vocabulary whose old rows are frozen and whose new rows are softmax mixes of them.

Enters: the frozen tables, the mixes, batches of pairs. Leaves: the loss and the gradients of the mixes' factors, computed for the rows
that a batch mentions and for no others.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch.nn.functional import softplus

from regraft.vectors.skipgram import Batch
from regraft.vocab.initializers.cw2v.softmax_rows import SoftmaxRows

Negatives = Literal["standard", "sum_inside"]
Ids = npt.NDArray[np.int64]


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
    """The rows of one side that a batch mentions, each once, with the loss's slope in those of them that are mixes.

    `ids` (u,) are the tokens in order and `values` (u, d) their rows; `mixes` (w,) are the places in `ids` of new tokens and `slope` (w, d)
    is theirs.
    """

    def __init__(self, side: Side, vocabulary: Vocabulary, ids: torch.Tensor) -> None:
        self.side, self.ids = side, torch.unique(ids)
        new = vocabulary.new[self.ids]
        self.mixes = (new >= 0).nonzero()[:, 0]
        self.rows = new[self.mixes]
        self.values = side.table[vocabulary.old[self.ids].clamp(min=0)]
        self.values[self.mixes] = side.mixes.rows(self.rows) if side.fixed is None else side.fixed[self.rows]
        self.slope = torch.zeros_like(self.values[self.mixes])

    def places(self, ids: torch.Tensor) -> torch.Tensor:
        """Where each of `ids` is in `self.ids`, in the same shape."""
        return torch.searchsorted(self.ids, ids)


class Edges:
    """Centers beside tokens, each pairing once: as entries of a sparse matrix from the rows of `w` to those of `u`."""

    def __init__(self, w: Vectors, u: Vectors, centers: torch.Tensor, others: torch.Tensor) -> None:
        self.shape = len(w.ids), len(u.ids)
        keys = w.places(centers) * self.shape[1] + u.places(others)
        merged, self.places = torch.unique(keys, return_inverse=True)
        self.left, self.right = merged // self.shape[1], merged % self.shape[1]

    def products(self, w: Vectors, u: Vectors) -> torch.Tensor:
        """The inner product of each center with its token, (pairings that were given,)."""
        zeros = _sparse(self.left, self.right, w.values.new_zeros(len(self.left)), self.shape)
        products: torch.Tensor = torch.sparse.sampled_addmm(zeros, w.values, u.values.T).values()
        return products[self.places]

    def add_slopes(self, w: Vectors, u: Vectors, slopes: torch.Tensor) -> None:
        """Add what `slopes` in the products (pairings that were given,) mean for the mixes of both."""
        merged = slopes.new_zeros(len(self.left)).index_add_(0, self.places, slopes)
        matrix = sparse.csr_matrix((merged.numpy(), (self.left.numpy(), self.right.numpy())), shape=self.shape)
        w.slope += torch.from_numpy(matrix[w.mixes.numpy()] @ u.values.numpy())
        u.slope += torch.from_numpy(matrix.T.tocsr()[u.mixes.numpy()] @ w.values.numpy())


def loss_and_slopes(batch: Batch, vocabulary: Vocabulary, given: Side, sought: Side, negatives: Negatives) -> tuple[float, list[Vectors]]:
    r"""Mean over pairs of :math:`-\log\sigma(u_o w_c) - \sum_k \log\sigma(-u_k w_c)`, and where its slopes lie.

    `given` holds the rows of centers and `sought` those of contexts; they are the same side in a tied model, and then share their slopes.
    "sum_inside" replaces the second term by :math:`-\log\sigma(-\sum_k u_k w_c)`.
    """
    centers, contexts, noise = (torch.from_numpy(part) for part in (batch.centers, batch.contexts, batch.negatives))
    others = torch.cat([contexts, noise.reshape(-1)])
    if given is sought:
        w = u = Vectors(given, vocabulary, torch.cat([centers, others]))
    else:
        w, u = Vectors(given, vocabulary, centers), Vectors(sought, vocabulary, others)
    edges = Edges(w, u, torch.cat([centers, centers.repeat_interleave(noise.shape[1])]), others)
    products = edges.products(w, u)
    hit, miss = products[: len(centers)], products[len(centers) :].view(noise.shape)
    if negatives == "sum_inside":
        inside = miss.sum(dim=1)
        loss, pull = softplus(-hit) + softplus(inside), torch.sigmoid(inside)[:, None].expand_as(miss)
    else:
        loss, pull = softplus(-hit) + softplus(miss).sum(dim=1), torch.sigmoid(miss)
    edges.add_slopes(w, u, torch.cat([torch.sigmoid(hit) - 1, pull.reshape(-1)]) / len(centers))
    return float(loss.mean()), [w] if w is u else [w, u]


def _sparse(rows: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The matrix with `values` at (`rows`, `columns`), in order and distinct, without PyTorch's warning that such are in beta."""
    starts = torch.searchsorted(rows, torch.arange(shape[0] + 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


def mean_loss(batches: list[Batch], vocabulary: Vocabulary, given: Side, sought: Side, negatives: Negatives) -> float:
    """The loss over fixed batches."""
    pairs = sum(len(batch.centers) for batch in batches)
    return sum(loss_and_slopes(batch, vocabulary, given, sought, negatives)[0] * len(batch.centers) for batch in batches) / max(1, pairs)


def set_gradients(vectors: Vectors) -> None:
    """Put the gradients of the factors into `left.grad` and `right.grad`."""
    mixes = vectors.side.mixes
    left, right = mixes.gradients(vectors.rows, vectors.values[vectors.mixes], vectors.slope)
    mixes.left.grad = torch.zeros_like(mixes.left)
    mixes.left.grad[vectors.rows] = left
    mixes.right.grad = right
