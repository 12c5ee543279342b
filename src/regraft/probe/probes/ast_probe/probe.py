"""The probe as a module: a projection B and two small tables of labels (paper, section 3.3), and its loss.

Batches are packed: tokens of all snippets one after another, and how many each has. Only the hinge, over pairs of pairs, is padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy, relu
from torch.nn.utils.rnn import pad_sequence

UNSEEN = -100  # number of a label that training has not seen; cross entropy leaves it out
START = 0.05  # parameters start uniformly between minus and plus this


@dataclass(frozen=True)
class Scores:
    """What the probe says of a packed batch of T tokens and P pairs of neighbours.

    Attributes
    ----------
    d : (P,) squared distances of neighbours. c : (P, |C|) scores of labels between them. u : (T, |U|) scores of unary labels.
    """

    d: torch.Tensor
    c: torch.Tensor
    u: torch.Tensor


class SyntaxProbe(nn.Module):
    r"""B (m1, m2), V_c (m2, \|C\|), V_u (m2, \|U\|), without biases.

    Of hidden states H: :math:`T = H B`, :math:`\hat d_i = \lVert T_i - T_{i-1} \rVert^2`, scores of constituents
    :math:`(T_i - T_{i-1}) V_c` and of unary labels :math:`T_i V_u`.
    """

    def __init__(self, width: int, rank: int, constituents: int, unary: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shapes = {"B": (width, rank), "V_c": (rank, constituents), "V_u": (rank, unary)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-START, START, generator=generator)))

    B: nn.Parameter
    V_c: nn.Parameter
    V_u: nn.Parameter

    def forward(self, states: torch.Tensor, lengths: torch.Tensor) -> Scores:
        """`states` (T, m1) of snippets with `lengths` (S,) tokens; a snippet of one token has no pair."""
        projected = states @ self.B
        later = torch.ones(len(states), dtype=torch.bool, device=states.device)
        later[lengths.cumsum(0) - lengths] = False
        place = later.nonzero()[:, 0]
        steps = projected[place] - projected[place - 1]
        return Scores(steps.square().sum(1), steps @ self.V_c, projected @ self.V_u)

    def off_orthogonal(self) -> torch.Tensor:
        """Squared Frobenius norm of B'B - I."""
        return (self.B.T @ self.B - torch.eye(self.B.shape[1], device=self.B.device, dtype=self.B.dtype)).square().sum()


def ranking_loss(d: torch.Tensor, true: torch.Tensor, pairs: Sequence[int]) -> torch.Tensor:
    """Hinge over ordered pairs (i, j) of one snippet with true_i > true_j: relu(1 - (d_i - d_j)), averaged over all of the batch.

    `d` and `true` (P,) are packed, `pairs` says how many each snippet has. Ties do not count; 0 where there is no such pair.
    """
    predicted = pad_sequence(list(torch.split(d, list(pairs))), batch_first=True)
    heights = pad_sequence(list(torch.split(true, list(pairs))), batch_first=True, padding_value=torch.nan)
    ordered = heights[:, :, None] > heights[:, None, :]  # never true of NaN
    gaps = relu(1 - (predicted[:, :, None] - predicted[:, None, :]))
    return (gaps * ordered).sum() / ordered.sum().clamp(min=1)


def label_loss(scores: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Cross entropy averaged over positions whose label is known; 0 where there is none."""
    known = (true != UNSEEN).sum().clamp(min=1)
    return cross_entropy(scores, true, ignore_index=UNSEEN, reduction="sum") / known
