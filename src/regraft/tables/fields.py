"""A table for each of several fields, or one for all of them, within one budget.

Enters: ids of fields, each counted from 0, shape (b, fields). Leaves: rows (b, fields, d). A field that would not get smaller keeps
its plain table.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.tables.budget import solve
from regraft.tables.embedding import CompressedEmbedding, check_shape
from regraft.tables.memory import Memory, parse_budget
from regraft.tables.stages import WHOLE, Quality, Stage

Layout = Literal["per-field", "fused"]


class FieldTables(nn.Module):
    """Tables of `sizes` rows and width `dim` by `method`, at most `budget` of what plain tables take.

    Parameters
    ----------
    method : the class; None keeps every table plain.
    layout : one table a field, or one for all, whose ids are moved by the sizes of the fields before; by default the method's own.
    counts : for each field how often each id occurs, for methods that ask.
    settings : of the method.

    Raises `ParameterError`: a budget below the floor, sizes of nothing.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        dim: int,
        method: type[CompressedEmbedding] | None = None,
        budget: str | float = 1.0,
        *,
        layout: Layout | None = None,
        counts: Sequence[torch.Tensor] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        for size in sizes:
            check_shape(size, dim)
        self.sizes, self.dim = tuple(sizes), dim
        self.layout: Layout = layout or (method.layout if method is not None else "per-field")
        self.allowed = parse_budget(budget, sum(sizes) * dim)
        whole = [sum(sizes)] if self.layout == "fused" else list(sizes)
        if method is not None and self.layout == "fused" and "fields" in inspect.signature(method.__init__).parameters:
            settings = {"fields": self.sizes} | settings  # one table that tells its fields apart
        found: list[dict[str, Any] | None] = [None] * len(whole)
        if method is not None:
            found = solve(method, whole, dim, self.allowed, settings)
        seen = [torch.cat(list(counts))] if counts is not None and self.layout == "fused" else counts
        bound = (1 / max(sizes)) ** 0.5
        self.tables = nn.ModuleList()
        for place, (rows, given) in enumerate(zip(whole, found, strict=True)):
            if given is None or method is None:
                table: nn.Module = nn.Embedding(rows, dim, _weight=torch.empty(rows, dim).uniform_(-bound, bound))
            else:
                table = method.made(rows, dim, settings | given, None if seen is None else seen[place])
            self.tables.append(table)
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("starts", starts, persistent=False)

    starts: torch.Tensor

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (b, fields, d) of ids (b, fields). Raises `ParameterError` for an id outside its field."""
        if ids.dim() != 2 or ids.shape[1] != len(self.sizes):
            raise ParameterError(f"ids of shape {tuple(ids.shape)}: give (rows, {len(self.sizes)} fields)")
        if self.layout == "fused":
            found: torch.Tensor = self.tables[0](ids + self.starts)
            return found
        return torch.stack([table(ids[:, place]) for place, table in enumerate(self.tables)], 1)

    def memory(self) -> Memory:
        """What all fields take together, plain ones included."""
        serving: dict[str, float] = {}
        training: dict[str, float] = {}
        for table in self.tables:
            own = (
                table.memory()
                if isinstance(table, CompressedEmbedding)
                else Memory({"plain rows": sum(p.numel() for p in table.parameters())})
            )
            for into, part in ((serving, own.serving), (training, own.training or own.serving)):
                for name, words in part.items():
                    into[name] = into.get(name, 0) + words
        return Memory(serving, training)

    @property
    def compressed(self) -> list[CompressedEmbedding]:
        """The tables that are not plain."""
        return [table for table in self.tables if isinstance(table, CompressedEmbedding)]

    def extra_loss(self) -> torch.Tensor | float:
        """What the tables add to the model's loss."""
        return sum((table.extra_loss() for table in self.compressed), start=0.0)

    def after_step(self) -> None:
        """Called after each step of the optimizer."""
        for table in self.compressed:
            table.after_step()

    def again(self) -> bool:
        """Whether the batch is to be passed once more, with another `after_step` and no step of the optimizer."""
        asked = [table.again() for table in self.compressed]  # each is asked
        return any(asked)

    def stages(self) -> tuple[Stage, ...]:
        """Of a training with these tables, in turn."""
        return self.compressed[0].stages if self.compressed else WHOLE

    def set_rate(self, rate: float) -> None:
        """Called with the rate of the model's optimizer."""
        for table in self.compressed:
            table.set_rate(rate)

    def begin(self, stage: str, steps: int) -> None:
        """Called before a stage of `steps` steps."""
        for table in self.compressed:
            table.begin(stage, steps)

    def advance(self, stage: str, quality: Quality) -> None:
        """Put the tables that follow `stage` in the place of those that are there."""
        for place, table in enumerate(self.tables):
            if isinstance(table, CompressedEmbedding):
                self.tables[place] = table.advance(stage, quality)

    def architecture(self) -> list[nn.Parameter]:
        """Parameters that learn on validation batches, in stages that search."""
        return [parameter for table in self.compressed for parameter in table.architecture()]

    def moved(self) -> list[nn.Parameter]:
        """Parameters that `after_step` moves itself."""
        return [parameter for table in self.compressed for parameter in table.moved()]

    def export(self) -> None:
        """Put the tables as they serve in the place of those that are there."""
        for place, table in enumerate(self.tables):
            if isinstance(table, CompressedEmbedding):
                self.tables[place] = table.export()
