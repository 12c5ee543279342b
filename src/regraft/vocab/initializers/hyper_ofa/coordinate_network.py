"""The hypernetwork of HyperOFA: from the vectors of the words that hold a token to the token's row.

Enters: word vectors, which words hold which token, and rows to learn from. Leaves: rows for other tokens. Sets are padded batch by batch,
so nothing of size tokens x words x dimensions is ever in memory.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from regraft.progress import progress_bar

Ids = npt.NDArray[np.int64]
BATCH = 128
HELD_OUT = 20  # every twentieth token is kept from training, to say how near the rows come
LEAST_SHARE = 0.5  # of a set's words that an augmented set keeps
VECTORS_AT_ONCE = 4096  # that the LSTM remembers for its gradient; past them a batch goes through it again on the way back


@dataclass(frozen=True)
class NetworkTraining:
    """The fields of `HyperOFA` under the same names."""

    layers: int
    hidden: int
    dropout: float
    max_vectors: int
    lambda_: float
    T: float
    lr: float
    decay: float
    decay_every: int
    network_epochs: int
    minutes: float | None


class WordSets:
    """For each token the set of words that hold it. `held` is (tokens, words), `matrix` (words, d) their vectors."""

    def __init__(self, held: sparse.csr_matrix, matrix: npt.NDArray[np.float32]) -> None:
        self.pointers, self.words = held.indptr.astype(np.int64), held.indices.astype(np.int64)
        self.matrix = torch.from_numpy(matrix)

    @property
    def sizes(self) -> Ids:
        """Words of each token, shape (tokens,)."""
        return np.asarray(np.diff(self.pointers), dtype=np.int64)

    def draw(self, tokens: Ids, most: int, random: np.random.Generator, augment: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors of each token's words in random order, (b, longest, d) padded with zeros, and how many they are, (b,).

        At most `most` of each; with `augment` every second set keeps only a random 50 to 100 % of its words.
        """
        sizes = self.sizes[tokens]
        owner = np.repeat(np.arange(len(tokens)), sizes)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.arange(len(owner)) - starts[owner] + self.pointers[tokens][owner]
        order = np.lexsort((random.random(len(owner)), owner))  # shuffled within each set
        place = np.arange(len(owner)) - starts[owner]
        shares = np.where(random.random(len(tokens)) < 0.5, random.uniform(LEAST_SHARE, 1, len(tokens)), 1.0) if augment else 1.0
        taken = np.minimum(np.maximum(1, np.round(sizes * shares)), most).astype(np.int64)
        kept = place < taken[owner]
        padded = torch.zeros(len(tokens), int(taken.max()), self.matrix.shape[1])
        padded[owner[kept], place[kept]] = self.matrix[self.words[entries[order[kept]]]]
        return padded, torch.from_numpy(taken)


class CoordinateNetwork(nn.Module):
    """BiLSTM over a set of word vectors; its last state of either direction gives the row."""

    def __init__(self, inputs: int, outputs: int, layers: int, hidden: int, dropout: float) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True, dropout=between, bidirectional=True)
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(2 * hidden, outputs)

    def forward(self, vectors: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """Rows (b, outputs) of padded sets (b, longest, inputs) of `sizes` (b,)."""
        packed = pack_padded_sequence(vectors, sizes, batch_first=True, enforce_sorted=False)
        _, (states, _) = self.lstm(packed)
        rows: torch.Tensor = self.out(self.dropout(torch.cat([states[-2], states[-1]], dim=1)))
        return rows


def coordinate_loss(predicted: torch.Tensor, true: torch.Tensor, lambda_: float, T: float) -> torch.Tensor:
    r""":math:`\lambda\,L_c + (1 - \lambda)\,L_1` of rows (b, r).

    :math:`L_c` is InfoNCE over the batch: the cosine of a predicted row to its own true row against those to the others, at temperature
    *T*. :math:`L_1` is the mean over the batch of :math:`\lVert p - t \rVert_1 / \lVert t \rVert_1`.
    """
    cosines = nn.functional.normalize(predicted, dim=1) @ nn.functional.normalize(true, dim=1).T
    contrast = nn.functional.cross_entropy(cosines / T, torch.arange(len(true)))
    distance = (predicted - true).abs().sum(1) / true.abs().sum(1).clamp(min=torch.finfo(true.dtype).tiny)
    return lambda_ * contrast + (1 - lambda_) * distance.mean()


def learn_rows(
    known: WordSets, rows: torch.Tensor, tokens: Ids, wanted: WordSets, wanted_tokens: Ids, training: NetworkTraining, seed: int
) -> tuple[torch.Tensor, float, float]:
    """Train on the rows (known tokens, r) of `tokens` and predict those of `wanted_tokens`.

    Returns (rows of shape (wanted tokens, r), float32; mean cosine of predicted to true rows on the tokens kept from training; epochs
    done).
    """
    random = np.random.default_rng(seed)
    scale = rows[torch.from_numpy(tokens)].float().square().mean().sqrt().clamp(min=1e-12)  # the loss does not depend on it, Adam does
    targets = rows.float() / scale
    shuffled = random.permutation(tokens)
    held_out, learned = shuffled[: len(tokens) // HELD_OUT], shuffled[len(tokens) // HELD_OUT :]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CoordinateNetwork(known.matrix.shape[1], rows.shape[1], training.layers, training.hidden, training.dropout)
        epochs = _fit(network, known, targets, learned, training, random)
    network.eval()
    predicted = _predict(network, wanted, wanted_tokens, training.max_vectors, seed) * scale
    if not len(held_out):
        return predicted, float("nan"), epochs
    checked = _predict(network, known, held_out, training.max_vectors, seed)
    return predicted, float(nn.functional.cosine_similarity(checked, targets[torch.from_numpy(held_out)]).mean()), epochs


def _fit(
    network: CoordinateNetwork, known: WordSets, targets: torch.Tensor, tokens: Ids, training: NetworkTraining, random: np.random.Generator
) -> float:
    """Train in place; returns the epochs done, of which the last may be cut short by the time that is given."""
    end = math.inf if training.minutes is None else time.monotonic() + 60 * training.minutes
    done = 0.0
    optimizer = torch.optim.Adam(network.parameters(), lr=training.lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, training.decay_every, training.decay)
    network.train()
    with progress_bar("hyper-ofa", total=training.network_epochs, unit="epochs") as bar:
        for _ in range(training.network_epochs):
            losses: list[float] = []
            batches = list(_batches(tokens, known.sizes, random))
            for batch in batches:
                if losses and time.monotonic() > end:
                    return done
                vectors, sizes = known.draw(batch, training.max_vectors, random, augment=True)
                loss = coordinate_loss(_in_parts(network, vectors, sizes), targets[torch.from_numpy(batch)], training.lambda_, training.T)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                losses.append(loss.item())
                done += 1 / len(batches)
                bar.update(done)
                bar.say(f"loss {np.mean(losses):.3f}")
            schedule.step()
            if time.monotonic() > end:
                break
    return done


def _in_parts(network: CoordinateNetwork, vectors: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """The rows of a batch; of a large one part by part, each computed again for its gradient, so that memory is that of a part."""
    count = max(1, VECTORS_AT_ONCE // vectors.shape[1])
    if count >= len(vectors):
        rows: torch.Tensor = network(vectors, sizes)
        return rows
    parts = zip(torch.split(vectors, count), torch.split(sizes, count), strict=True)
    return torch.cat([checkpoint(network, *part, use_reentrant=False) for part in parts])


def _batches(tokens: Ids, sizes: Ids, random: np.random.Generator) -> Iterator[Ids]:
    """Batches in random order, of sets of about the same size, so that little is padded."""
    order = tokens[np.argsort(np.log(sizes[tokens]) + random.normal(0, 0.5, len(tokens)))]
    parts = np.array_split(order, max(1, round(len(order) / BATCH)))
    for i in random.permutation(len(parts)):
        yield parts[i]


def _predict(network: CoordinateNetwork, sets: WordSets, tokens: Ids, most: int, seed: int) -> torch.Tensor:
    random = np.random.default_rng(seed)
    out = torch.zeros(len(tokens), network.out.out_features)
    order = np.argsort(sets.sizes[tokens], kind="stable")
    with torch.inference_mode():
        for part in np.array_split(order, max(1, -(-len(order) // BATCH))) if len(order) else ():
            out[torch.from_numpy(part)] = network(*sets.draw(tokens[part], most, random, augment=False))
    return out
