"""What a symbol-blind model makes out of a cipher: a probe on its hidden states names symbols, and names are summed over a text.

Enters: text of any symbols, each exchanged for another. Leaves: which symbol of the model's alphabet each stands for, one for one, and
how much each name is worth. The probe was trained on plain text: to the model, that is one more cipher.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regraft.bias.lexinvariant.model import LexinvariantLM
from regraft.bias.lexinvariant.tables import fresh_seeds
from regraft.errors import ParameterError
from regraft.progress import progress_bar

WIDTH = 256  # of the probe's hidden layer


@dataclass(frozen=True)
class Deciphered:
    """text : under the best key. key : plain symbol by symbol of the cipher. certainty : by symbol of the cipher, of all names the
    share of its own. symbols : how long the cipher is.
    """

    text: str
    key: dict[str, str]
    certainty: dict[str, float]
    symbols: int


def make_probe(model: LexinvariantLM) -> nn.Sequential:
    """Two layers from hidden states to the symbols of the alphabet."""
    width, size = model.config.hidden_size, model.config.vocab_size
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, WIDTH), nn.GELU(), nn.Linear(WIDTH, size))


def train_probe(
    model: LexinvariantLM, windows: Tensor, *, steps: int = 300, batch: int = 32, rate: float = 1e-3, seed: int = 0
) -> nn.Sequential:
    """A probe that names the symbol of each place from the frozen model's states over windows (n, length), with new tables each step."""
    torch.manual_seed(seed)
    probe = make_probe(model)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=rate)
    model.eval()  # type: ignore[no-untyped-call]
    with progress_bar("training the probe", steps, "steps") as bar:
        for _ in range(steps):
            ids = windows[torch.randint(len(windows), (batch,))]
            loss = cross_entropy(probe(states(model, ids, fresh_seeds(batch))).flatten(0, 1), ids.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            bar.advance()
    return probe.eval()


@torch.no_grad()
def states(model: LexinvariantLM, ids: Tensor, seeds: Tensor) -> Tensor:
    """Last hidden states (n, length, d)."""
    hidden = model(ids, seeds=seeds).hidden_states
    assert hidden is not None
    found: Tensor = hidden[0]
    return found


@torch.no_grad()
def names(model: LexinvariantLM, probe: nn.Module, ids: Tensor, *, context: int | None = None, draws: int = 4, seed: int = 0) -> Tensor:
    """Summed log-probabilities (V, V) that a symbol of ids (length,), by its row, is that of the alphabet, by its column.

    A text longer than `context` (None: the model's) is read in parts. Each part has `draws` tables, and its names count as their mean. Only
    the second half of each part is asked where it has one: before, the model has seen too little.
    """
    size, length = model.config.vocab_size, context or model.config.context
    total = torch.zeros(size, size, dtype=torch.float64)
    model.eval()  # type: ignore[no-untyped-call]
    for at, part in enumerate(torch.split(ids, length)):
        seeds = torch.arange(draws) + (at + 1) * 2**20 + (seed + 1) * 2**40
        log_probs = probe(states(model, part.expand(draws, -1), seeds)).log_softmax(-1).mean(0).double()
        asked = slice(len(part) // 2, None)
        total.index_add_(0, part[asked], log_probs[asked])
    return total


def best_key(total: Tensor, present: Sequence[int]) -> dict[int, int]:
    """One symbol of the alphabet for each of those `present`, none twice, with the greatest sum (Hungarian assignment)."""
    rows, columns = linear_sum_assignment(total[list(present)].numpy(), maximize=True)
    return {present[int(row)]: int(column) for row, column in zip(rows, columns, strict=True)}


def by_frequency(ids: Tensor, learned: Tensor) -> dict[int, int]:
    """The rival that needs no model: the k-th most frequent symbol of ids is the k-th most frequent one of `learned`."""
    often, known = (torch.bincount(one.flatten()) for one in (ids, learned))
    order = [int(one) for one in often.argsort(descending=True, stable=True) if often[one]]
    ranked = [int(one) for one in known.argsort(descending=True, stable=True)]
    return dict(zip(order, ranked, strict=False))


def decipher(model: LexinvariantLM, probe: nn.Module, text: str, *, draws: int = 4, seed: int = 0) -> Deciphered:
    """Read `text`, whatever its symbols are. Raises `ParameterError`: more different symbols than the model has, fewer than 2."""
    alphabet = model.config.alphabet
    symbols = sorted(set(text))
    if len(symbols) > len(alphabet):
        raise ParameterError(
            f"the cipher has {len(symbols)} different symbols, the model was trained on texts of {len(alphabet)}: "
            f"take out what stands for nothing (such as {symbols[0]!r}), or train a model with more"
        )
    if len(symbols) < 2:
        raise ParameterError("the cipher has fewer than 2 different symbols: there is nothing to read")
    place = {one: number for number, one in enumerate(symbols)}
    ids = torch.tensor([place[one] for one in text])
    total = names(model, probe, ids, draws=draws, seed=seed)
    key = best_key(total, range(len(symbols)))
    counts = torch.bincount(ids, minlength=len(total)).clamp(min=1)
    shares = (total / counts.unsqueeze(1)).softmax(1)
    found = {symbols[row]: alphabet[column] for row, column in key.items()}
    certainty = {symbols[row]: float(np.round(float(shares[row, column]), 4)) for row, column in key.items()}
    return Deciphered("".join(found[one] for one in text), found, certainty, len(ids))
