"""Models of clicks over tables of fields: DLRM, wide & deep, DCN and DeepFM.

Enters: ids (b, fields) and numbers (b, k), which the reader has put on a logarithmic scale. Leaves: logits (b,). Whatever is said of an id
is said by its row, so that the budget of the tables covers all of it. Widths by default are the bench's (its section 5 and code).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.tables.fields import FieldTables


class CtrModel(nn.Module, ABC):
    """What the models share. `tables` : of the fields. `numbers` : how many numeric features there are."""

    def __init__(self, tables: FieldTables, numbers: int = 0) -> None:
        super().__init__()
        self.tables, self.numbers = tables, numbers
        self.fields, self.dim = len(tables.sizes), tables.dim

    @property
    def width(self) -> int:
        """Of all rows and numbers of an example beside each other."""
        return self.fields * self.dim + self.numbers

    def forward(self, ids: torch.Tensor, numbers: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (b,) of ids (b, fields) and numbers (b, k). Raises `ParameterError` for numbers of another shape."""
        if numbers is None:
            numbers = torch.zeros(len(ids), 0, device=ids.device)
        if numbers.shape != (len(ids), self.numbers):
            raise ParameterError(f"numbers of shape {tuple(numbers.shape)}: give ({len(ids)}, {self.numbers})")
        return self.head(self.tables(ids), numbers)

    @abstractmethod
    def head(self, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Logits (b,) of rows (b, fields, d) and numbers (b, k)."""


class Dlrm(CtrModel):
    """Numbers become a vector as one more field; all pairwise products of vectors, with it, go to the top (Naumov et al., 2019).

    bottom, top : widths of hidden layers; the bottom ends with d. Without numbers there is no bottom, and the products alone go up.
    """

    def __init__(
        self, tables: FieldTables, numbers: int = 0, *, bottom: Sequence[int] = (512, 256, 64), top: Sequence[int] = (512, 256)
    ) -> None:
        super().__init__(tables, numbers)
        self.bottom = layers(numbers, (*bottom, self.dim), ends=True) if numbers else None
        vectors = self.fields + bool(numbers)
        if vectors < 2:
            raise ParameterError("dlrm multiplies vectors of fields: one field without numbers is too little; take wdl")
        first, second = torch.triu_indices(vectors, vectors, 1)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)
        self.top = layers(len(first) + (self.dim if numbers else 0), (*top, 1))

    first: torch.Tensor
    second: torch.Tensor

    def head(self, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        dense = []
        if self.bottom is not None:
            dense = [self.bottom(numbers)]
            rows = torch.cat([dense[0].unsqueeze(1), rows], 1)
        products = torch.bmm(rows, rows.transpose(1, 2))[:, self.first, self.second]
        found: torch.Tensor = self.top(torch.cat([*dense, products], 1)).squeeze(1)
        return found


class Wdl(CtrModel):
    """A linear model beside a deep one (Cheng et al., 2016); the wide part is linear in rows and numbers. hidden : of the deep part."""

    def __init__(self, tables: FieldTables, numbers: int = 0, *, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__(tables, numbers)
        self.wide, self.deep = nn.Linear(self.width, 1), layers(self.width, (*hidden, 1))

    def head(self, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        flat = torch.cat([rows.flatten(1), numbers], 1)
        found: torch.Tensor = (self.wide(flat) + self.deep(flat)).squeeze(1)
        return found


class Dcn(CtrModel):
    r"""Crosses :math:`x_{l+1} = x_0 \odot (W_l x_l + b_l) + x_l` beside a deep part (DCN-V2, Wang et al., 2021).

    crosses : how many. hidden : of the deep part. rank : of W as a product of two factors; 0 takes it whole.
    """

    def __init__(
        self, tables: FieldTables, numbers: int = 0, *, crosses: int = 3, hidden: Sequence[int] = (256, 256, 256), rank: int = 0
    ) -> None:
        super().__init__(tables, numbers)
        width = self.width

        def cross() -> nn.Module:
            return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width)) if rank else nn.Linear(width, width)

        self.crosses = nn.ModuleList(cross() for _ in range(crosses))
        self.deep = layers(width, hidden, ends=True)
        self.last = nn.Linear(width + hidden[-1], 1)

    def head(self, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        first = crossed = torch.cat([rows.flatten(1), numbers], 1)
        for cross in self.crosses:
            crossed = first * cross(crossed) + crossed
        found: torch.Tensor = self.last(torch.cat([crossed, self.deep(first)], 1)).squeeze(1)
        return found


class DeepFm(CtrModel):
    r"""Weights of ids, products of all pairs of vectors, and a deep part (Guo et al., 2017).

    The first column of a row is its id's weight, the others its vector, as the bench has it. hidden : of the deep part. The products are
    :math:`\frac12 \sum_k ((\sum_f v_{fk})^2 - \sum_f v_{fk}^2)`.
    """

    def __init__(self, tables: FieldTables, numbers: int = 0, *, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__(tables, numbers)
        if self.dim < 2:
            raise ParameterError("deepfm needs rows of at least 2 values: the first is a weight")
        self.linear = nn.Linear(numbers, 1, bias=False) if numbers else None
        self.deep = layers(self.width - self.fields, (*hidden, 1))

    def head(self, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        weights, vectors = rows[:, :, 0], rows[:, :, 1:]
        pairs = (vectors.sum(1).square() - vectors.square().sum(1)).sum(1) / 2
        deep = self.deep(torch.cat([vectors.flatten(1), numbers], 1))
        found: torch.Tensor = deep.squeeze(1) + weights.sum(1) + pairs
        return found if self.linear is None else found + self.linear(numbers).squeeze(1)


MODELS: dict[str, type[CtrModel]] = {"dlrm": Dlrm, "wdl": Wdl, "dcn": Dcn, "deepfm": DeepFm}


def make_model(name: str, tables: FieldTables, numbers: int = 0, **widths: Any) -> CtrModel:
    """The model `name`. Raises `ParameterError` for one that is not known."""
    if name not in MODELS:
        raise ParameterError(f"--model {name}: choose {', '.join(MODELS)}")
    return MODELS[name](tables, numbers, **widths)


def layers(width: int, widths: Sequence[int], *, ends: bool = False) -> nn.Sequential:
    """Linear layers from `width` through `widths` with ReLU between, and after the last one where it `ends` so."""
    made: list[nn.Module] = []
    for wide in widths:
        made += [nn.Linear(width, wide), nn.ReLU()]
        width = wide
    return nn.Sequential(*(made if ends else made[:-1]))
