r"""Approximate likelihood matching (Minixhofer et al. 2025, 2503.20083): what two spellings of a text say about its chunks, compared.

Enters: logits of both spellings of passages. Leaves: one distance a chunk. A chunk ends where a token of each spelling ends at the same
byte; its likelihood *p* is the product of its tokens' and of the chance that a new word begins behind it, without which a spelling whose
tokens end inside words would differ by that alone. The distance is the binary divergence of :math:`p^{1/\tau}` at :math:`\tau = 100`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from regraft.vocab.initializer import Target
from regraft.vocab.initializers.token_distillation.pairing import Passage

TEMPERATURE = 100.0
LEAST_OPENING = 0.1  # a chunk behind which the teacher sees no new word coming (ours: at this chance or less) is one with the next
CERTAIN = -1e-6  # nats; a likelihood of one would have no finite divergence

Ids = npt.NDArray[np.int64]
Read = tuple[torch.Tensor, torch.Tensor]


def openers(target: Target, columns: int) -> torch.Tensor:
    """Which rows begin a word, shape (`columns` old tokens and the new ones behind them): those whose bytes begin with white space."""
    old, new = target.old_tokenizer, target.tokenizer
    surfaces = [*(old.surface(token) for token in range(columns)), *(new.surface(token) for token in target.ids.tolist())]
    return torch.tensor([surface[:1].isspace() for surface in surfaces])


def read(logits: torch.Tensor, rows: Ids, opens: torch.Tensor) -> Read:
    """Log-likelihood of `rows` (n,) up to each place, the first left out, and of a word beginning behind it; both (n,), in nats.

    `logits` (n, V) are those behind each of the rows.
    """
    logits = logits.float()
    own = -cross_entropy(logits[:-1], torch.from_numpy(rows[1:]).to(logits.device), reduction="none")
    opening = logits[:, opens.to(logits.device)].logsumexp(dim=1) - logits.logsumexp(dim=1)
    return torch.cat([own.new_zeros(1), own]).cumsum(dim=0), opening


def chunk_distances(teacher: Sequence[Read], student: Sequence[Read], passages: Sequence[Passage]) -> torch.Tensor:
    """Divergences (chunks,) of all passages, at least 0; the chunk that begins a passage has nothing before it and is left out."""
    found = []
    for (old, old_opening), (new, new_opening), passage in zip(teacher, student, passages, strict=True):
        ends = old_opening[passage.old_at].exp() > LEAST_OPENING
        ends[0] = True  # where the first chunk begins
        kept = ends.nonzero()[:, 0].cpu().numpy()
        old_at, new_at = passage.old_at[kept], passage.new_at[kept]
        given = old[old_at].diff() + old_opening[old_at[1:]]
        learned = new[new_at].diff() + new_opening[new_at[1:]]
        found.append(divergence(given, learned))
    return torch.cat(found)


def divergence(given: torch.Tensor, learned: torch.Tensor) -> torch.Tensor:
    """Binary Kullback-Leibler divergence of likelihoods to the power of one hundredth, from their logarithms in nats."""
    t, s = (nats.clamp(max=CERTAIN) / TEMPERATURE for nats in (given, learned))
    return t.exp() * (t - s) - t.expm1() * ((-t.expm1()).log() - (-s.expm1()).log())
