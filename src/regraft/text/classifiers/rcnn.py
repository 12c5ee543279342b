"""RCNN: documents classified from each word between its left and its right context (Lai et al. 2015, section 3).

Enters: tables of words and texts as ids. Leaves: an `nn.Module` with one row of logits a document, and a loop that trains it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from regraft.errors import EvaluationError, ParameterError
from regraft.progress import progress_bar

Labelled = Sequence[tuple[str, str]]


class RCNN(nn.Module):
    r"""A recurrent convolutional network.

    :math:`c_l(i) = f(W_l c_l(i-1) + W_{sl} e(w_{i-1}))`,
    :math:`c_r(i) = f(W_r c_r(i+1) + W_{sr} e(w_{i+1}))` (equations 1, 2), with learned
    :math:`c_l(1)` and :math:`c_r(n)`; :math:`x_i = [c_l(i); e(w_i); c_r(i)]` (3); :math:`y_i = \tanh(W_2 x_i + b_2)` (4);
    :math:`y = \max_i y_i` (5); logits :math:`W_4 y + b_4` (6). The context of a word is without the word itself. f is tanh.

    Parameters
    ----------
    vectors : (V, d), row 0 the padding, which is copied and trained. classes : of documents. context : width of c. hidden : width of y.
    """

    def __init__(self, vectors: npt.NDArray[np.float32], classes: int, context: int = 50, hidden: int = 100) -> None:
        super().__init__()
        count, width = vectors.shape
        self.e = nn.Embedding(count, width, _weight=torch.from_numpy(np.array(vectors)))
        self.left, self.right = (nn.RNN(width, context, nonlinearity="tanh", bias=False, batch_first=True) for _ in range(2))
        self.first, self.last = (nn.Parameter(torch.zeros(context)) for _ in range(2))
        self.middle = nn.Linear(2 * context + width, hidden)
        self.top = nn.Linear(hidden, classes)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits (b, classes) of documents `ids` (b, n), of which the first `lengths` (b,) words count."""
        x, _, _ = self.states(ids, lengths)
        y = torch.tanh(self.middle(x))
        places = torch.arange(ids.shape[1], device=ids.device)
        y = y.masked_fill((places[None] >= lengths[:, None])[..., None], -torch.inf)
        return self.top(y.amax(1))  # type: ignore[no-any-return]

    def states(self, ids: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x (b, n, 2c + d), and c_l, c_r (b, n, c) of every word."""
        e = self.e(ids)
        turned = _turned(lengths, ids.shape[1])
        left = _before(self.left, e, self.first)
        right = _before(self.right, e.gather(1, turned[..., None].expand_as(e)), self.last)
        right = right.gather(1, turned[..., None].expand_as(right))
        return torch.cat([left, e, right], 2), left, right


def _before(recurrent: nn.RNN, e: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """The state before each word (b, n, c): `start`, then what has read the words so far but that one."""
    first = start.expand(1, len(e), -1).contiguous()
    read, _ = recurrent(e[:, :-1], first) if e.shape[1] > 1 else (first.transpose(0, 1)[:, :0], None)
    return torch.cat([first.transpose(0, 1), read], 1)


def _turned(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """Places (b, n) that read each document backwards, and its padding where it is."""
    places = torch.arange(longest, device=lengths.device)[None].expand(len(lengths), -1)
    return torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)


def fit(
    model: nn.Module,
    documents: Sequence[Sequence[int]],
    labels: Sequence[int],
    *,
    epochs: int = 5,
    batch_size: int = 32,
    lr: float = 1e-3,
    optimizer: str = "adam",
    seed: int = 0,
) -> list[float]:
    """Train `model` in place on `documents` of ids; the mean loss of each pass.

    The paper has plain gradient steps of 0.01 a document (`optimizer="sgd"`, `batch_size=1`, `lr=0.01`); the default, Adam in
    batches, is ours. Raises `ParameterError` for an empty document, `EvaluationError` where the loss is not finite.
    """
    if not documents or any(not len(one) for one in documents) or len(documents) != len(labels):
        raise ParameterError("an RCNN learns from documents of at least one word, with a label each")
    generator = torch.Generator().manual_seed(seed)
    steps: torch.optim.Optimizer
    steps = torch.optim.SGD(model.parameters(), lr) if optimizer == "sgd" else torch.optim.Adam(model.parameters(), lr)
    wanted, losses = torch.as_tensor(labels), []
    model.train()
    with progress_bar("training RCNN", total=epochs * len(documents), unit="documents") as bar:
        for _ in range(epochs):
            total = 0.0
            for batch in torch.split(torch.randperm(len(documents), generator=generator), batch_size):
                loss = cross_entropy(model(*padded([documents[int(at)] for at in batch])), wanted[batch])
                steps.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                steps.step()
                total += float(loss.detach()) * len(batch)
                bar.advance(len(batch))
            losses.append(total / len(documents))
            if not np.isfinite(total):
                raise EvaluationError("RCNN: the loss is not finite: lower the learning rate")
    model.eval()
    return losses


@torch.no_grad()
def predict(model: nn.Module, documents: Sequence[Sequence[int]], batch_size: int = 256) -> npt.NDArray[np.int64]:
    """The likeliest class of each document (n,)."""
    model.eval()
    found = [model(*padded(documents[at : at + batch_size])).argmax(1) for at in range(0, len(documents), batch_size)]
    return torch.cat(found).numpy()


def padded(documents: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (b, n) with zeros behind shorter documents, and lengths (b,)."""
    lengths = torch.tensor([len(one) for one in documents])
    ids = torch.zeros(len(documents), int(lengths.max()), dtype=torch.long)
    for row, one in enumerate(documents):
        ids[row, : len(one)] = torch.as_tensor(one)
    return ids, lengths
