"""Weights that are mixed from templates: the parametrizations that a network's layers carry.

A block's weight is :math:`W_m = \\sum_j \\alpha_{m,j} T^{s(m)}_j` with set :math:`s(m) = m \\bmod 2`; a wide layer is a grid of blocks.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize


class Templates(nn.Module):
    """Templates of one layer, or of all layers of a shape: one parameter (n, *block) for each set."""

    def __init__(self, sets: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.sets = nn.ParameterList([nn.Parameter(one) for one in sets])


class Mixed(nn.Module):
    """The parametrization of a weight: a grid of blocks, each a mix of the templates of its set.

    `coefficients` : a parameter (n,) for each block, by row; `layout` : (rows, columns) of block numbers.
    """

    def __init__(self, sets: Sequence[nn.Parameter], coefficients: Sequence[nn.Parameter], layout: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.sets, self.coefficients = nn.ParameterList(sets), nn.ParameterList(coefficients)
        self.layout = [list(row) for row in layout]
        numbers = sorted(number for row in layout for number in row)
        self.position = {number: place for place, number in enumerate(numbers)}
        self.set_of = {number: 0 if len(self.sets) == 1 else number % 2 for number in numbers}

    def block(self, number: int) -> torch.Tensor:
        mixed: torch.Tensor = torch.tensordot(self.coefficients[self.position[number]], self.sets[self.set_of[number]], dims=1)
        return mixed

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        rows = [torch.cat([self.block(number) for number in row], 1) if len(row) > 1 else self.block(row[0]) for row in self.layout]
        return torch.cat(rows) if len(rows) > 1 else rows[0]


def mix(layer: nn.Module, mixed: Mixed) -> None:
    """Let `layer` compute its weight by `mixed`; no weight of its own is left."""
    layer.weight = nn.Parameter(torch.empty(0), requires_grad=False)
    parametrize.register_parametrization(layer, "weight", mixed, unsafe=True)


def layout(rows: int, columns: int) -> list[list[int]]:
    """Numbers of blocks in a grid: 0 and 1, the trained ones, at both ends of the diagonal, the others behind them row by row.

    (2, 2) is [[0, 2], [3, 1]], (2, 1) is [[0], [1]], (1, 2) is [[0, 1]].
    """
    grid = [[-1] * columns for _ in range(rows)]
    grid[0][0], grid[-1][-1] = 0, 1
    free = iter(range(2, rows * columns))
    return [[number if number >= 0 else next(free) for number in row] for row in grid]
