"""(14): batch norm of points by their midpoint, with statistics for inference."""

from typing import Literal

import torch
from geoopt import PoincareBall
from torch import Tensor, nn
from torch.nn.functional import softplus

from regraft.bias.poincare.ball import ball_of, checked, exp0, frechet_mean, gyration, log0, midpoint, mobius_add
from regraft.errors import ParameterError

FLOOR = 1e-6


class PoincareBatchNorm(nn.Module):
    """Tangent vectors (n, channels, ...) at the origin to such, around exp0(`mean`) with mean squared distance `variance` from it.

    mean : "midpoint" (13), or "frechet", the slow rival. In training, running means of log0(midpoint) and of the variance are kept with
    `momentum`; inference uses them, or with `batch_stats` the batch's, as the authors' code does. Variance is kept positive by softplus.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        channels: int,
        ball: PoincareBall | float = 0.1,
        *,
        mean: Literal["midpoint", "frechet"] = "midpoint",
        momentum: float = 0.1,
        batch_stats: bool = False,
    ) -> None:
        super().__init__()
        self.ball, self.kind, self.momentum, self.batch_stats = ball_of(ball), mean, momentum, batch_stats
        self.mean = nn.Parameter(torch.zeros(channels))
        self.raw_variance = nn.Parameter(unsoftened(torch.tensor(1.0)))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.tensor(1.0))

    @property
    def variance(self) -> Tensor:
        return softplus(self.raw_variance)

    def forward(self, t: Tensor) -> Tensor:
        if t.dim() < 2 or t.shape[1] != len(self.mean):
            raise ParameterError(f"the batch norm takes (n, {len(self.mean)}, ...), not {tuple(t.shape)}")
        c = checked(self.ball.c, t)
        shape = (1, -1) + (1,) * (t.dim() - 2)
        x = exp0(t, c, 1)
        own = self.training or self.batch_stats
        if own and t.numel() == t.shape[1]:
            raise ParameterError("a batch of one point has no spread: give more, or ask for evaluation mode")
        center = self.center(x, c).view(shape) if own else exp0(self.running_mean, c).view(shape)
        away = mobius_add(-center, x, c, 1)
        tangent = log0(away, c, 1)  # |log0| = d / 2
        variance = 4 * tangent.square().sum(1).mean() if own else self.running_var
        if self.training:
            self.keep(log0(center.detach().flatten(), c.detach()), variance.detach())
        spread = exp0((self.variance / (variance + FLOOR)).sqrt() * tangent, c, 1)
        goal = exp0(self.mean, c).view(shape)
        return log0(mobius_add(goal, gyration(goal, -center, spread, c, 1), c, 1), c, 1)

    def center(self, x: Tensor, c: Tensor) -> Tensor:
        rows = x.movedim(1, -1).reshape(-1, x.shape[1])
        return midpoint(rows, c) if self.kind == "midpoint" else frechet_mean(rows, c)

    @torch.no_grad()
    def keep(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def unsoftened(variance: Tensor) -> Tensor:
    """What softplus brings back to `variance`, above 0."""
    return variance + (-(-variance).expm1()).log()
