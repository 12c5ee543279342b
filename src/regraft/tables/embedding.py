"""The contract of a compressed table: a module called as `nn.Embedding` or `nn.EmbeddingBag` is, which knows what it takes.

Enters: ids. Leaves: rows of the full width. A method says in `rows` how a row is made of what it holds, in `words` what it takes in closed
form, and in `knob` which of its settings a budget decides.
"""

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from regraft.errors import InputError, ParameterError
from regraft.method import Described, configure
from regraft.method.settings import accepted
from regraft.tables.budget import Knob, solve
from regraft.tables.memory import Memory, parse_budget
from regraft.tables.stages import WHOLE, Quality, Stage

Mode = Literal["sum", "mean", "max"]
ABOUT, ARRAYS = "table.json", "table.safetensors"
SCHEMA = 1
BESIDE = "table"  # where a compressed table lies in the folder of a model
CHECKED = 1 << 16  # rows at a time
BLOCK = 16_384  # ids a block


class LargerTable(UserWarning):
    """A table that is there could not be brought within its budget."""


class CompressedEmbedding(Described, nn.Module, ABC):
    """Base of every compressed table.

    Attributes
    ----------
    layout : whether it is one table a field, or one for all of them (section 3 of the paper).
    learns_from : whether `from_table` makes one of a table that is there; `fit` does it.
    after_training : whether it is best made of a trained table, since its codes, its places or its order come from that.
    counts_rows : whether it asks how often each id occurs. stages : of its training, in turn.
    num_embeddings, embedding_dim : rows n and width d that it stands for. mode : None makes `forward` that of `nn.Embedding`, else that of
        `nn.EmbeddingBag`. padding_idx : an id whose row is zero and learns nothing.
    """

    family = "table"
    layout: ClassVar[Literal["per-field", "fused"]] = "per-field"
    learns_from: ClassVar[bool] = False
    after_training: ClassVar[bool] = False
    counts_rows: ClassVar[bool] = False
    stages: ClassVar[tuple[Stage, ...]] = WHOLE

    def __init__(self, num_embeddings: int, embedding_dim: int, *, mode: Mode | None = None, padding_idx: int | None = None) -> None:
        super().__init__()
        check_shape(num_embeddings, embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ParameterError(f"padding_idx={padding_idx} of a table of {num_embeddings} rows")
        self.num_embeddings, self.embedding_dim, self.mode = num_embeddings, embedding_dim, mode
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings

    # what a method says

    @abstractmethod
    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (m, d) of ids (m,), int64 and in range."""

    @classmethod
    @abstractmethod
    def words(cls, rows: int, dim: int, **settings: Any) -> float:
        """Serving memory of a table of `rows` x `dim` with `settings`, in words, by the closed form."""

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob | None:
        """The setting that a budget decides for tables of `sizes` rows; None where memory is what it is."""
        return None

    @abstractmethod
    def memory(self) -> Memory:
        """What this very table takes, by what it holds."""

    # what follows from it

    @classmethod
    def from_budget(
        cls, num_embeddings: int, embedding_dim: int, budget: str | float, *, counts: torch.Tensor | None = None, **settings: Any
    ) -> Self:
        """A table for `num_embeddings` ids whose serving memory is at most `budget` (0.1, "10%", "12MB") of the plain one's.

        `counts` (n,) : how often each id occurs in training, for methods that ask (`counts_rows`). Other settings are the method's own.
        Raises `ParameterError` below the least that the method can do, and names it.
        """
        check_shape(num_embeddings, embedding_dim)
        allowed = parse_budget(budget, num_embeddings * embedding_dim)
        found = solve(cls, [num_embeddings], embedding_dim, allowed, settings, keep_plain=False)[0]
        return cls.made(num_embeddings, embedding_dim, settings | (found or {}), counts)

    @classmethod
    def made(cls, rows: int, dim: int, settings: Mapping[str, Any], counts: torch.Tensor | None = None) -> Self:
        """A table with `settings`, checked one by one. Raises `ParameterError`."""
        more = {"counts": counts} if cls.counts_rows else {}
        if cls.counts_rows and counts is None:
            raise ParameterError(f"{cls.name} needs to know how often each id occurs: give counts")
        return configure(cls, {"num_embeddings": rows, "embedding_dim": dim, **settings, **more})

    @classmethod
    def from_table(cls, weight: torch.Tensor, budget: str | float, **settings: Any) -> Self:
        """A table that stands for `weight` (n, d), which is there already, within `budget` of it.

        Raises `ParameterError` where a method only trains, below its floor, and for values that are no finite numbers.
        """
        if not cls.learns_from:
            raise ParameterError(f"{cls.name} learns with a model and cannot be made of a table that is there")
        check_weight(weight)
        rows, dim = weight.shape
        known = accepted(cls, {"num_embeddings": rows, "embedding_dim": dim, **settings})
        own = {name: known[name] for name in settings}
        table = cls.from_budget(rows, dim, budget, **cls.settings_of(weight, budget, own))
        table.fit(weight.detach())
        return table

    @classmethod
    def settings_of(cls, weight: torch.Tensor, budget: str | float, settings: Mapping[str, Any]) -> dict[str, Any]:
        """`settings` with those that `weight` itself decides, before the budget decides the knob."""
        return dict(settings)

    def fit(self, weight: torch.Tensor) -> None:
        """Stand for `weight` (n, d), as near as the settings allow; methods with `learns_from` say how."""
        raise NotImplementedError

    def forward(
        self, ids: torch.Tensor, offsets: torch.Tensor | None = None, per_sample_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `nn.Embedding` (mode None): ids of any shape -> (\\*shape, d). As `nn.EmbeddingBag`: ids (b, k), or (m,) with offsets (b,).

        Raises `ParameterError` for ids that are no whole numbers, or outside 0 to n - 1.
        """
        if not torch.compiler.is_compiling():
            self._check(ids)
        flat = ids.reshape(-1).long()
        if self.mode is None:
            return self._padded(self.rows(flat), flat).reshape(*ids.shape, self.embedding_dim)
        if ids.dim() == 2:
            offsets = torch.arange(0, flat.numel(), max(ids.shape[1], 1), device=ids.device)[: ids.shape[0]]
        elif offsets is None:
            raise ParameterError("ids of one dimension need offsets, where each bag begins")
        return self._bags(flat, offsets, per_sample_weights)

    def _bags(self, ids: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """Rows of each bag added up (or their mean, or greatest); padding takes no part."""
        rows = self.rows(ids)
        if weights is not None:
            rows = rows * weights.reshape(-1, 1).to(rows.dtype)
        bag = torch.searchsorted(offsets.contiguous(), torch.arange(ids.numel(), device=ids.device), right=True) - 1
        counted = torch.ones_like(ids, dtype=rows.dtype) if self.padding_idx is None else (ids != self.padding_idx).to(rows.dtype)
        shape = (offsets.numel(), self.embedding_dim)
        if self.mode == "max":
            rows = rows.masked_fill(counted.unsqueeze(1) == 0, -torch.inf)
            most = rows.new_full(shape, -torch.inf).scatter_reduce(0, bag.unsqueeze(1).expand_as(rows), rows, "amax")
            return torch.where(torch.isinf(most), torch.zeros_like(most), most)
        total = rows.new_zeros(shape).index_add(0, bag, rows * counted.unsqueeze(1))
        if self.mode == "sum":
            return total
        return total / rows.new_zeros(offsets.numel()).index_add(0, bag, counted).clamp(min=1).unsqueeze(1)

    def _padded(self, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return rows if self.padding_idx is None else rows * (ids != self.padding_idx).unsqueeze(-1)

    def _check(self, ids: Any) -> None:
        if not isinstance(ids, torch.Tensor):
            raise ParameterError(f"ids must be a tensor of whole numbers, these are a {type(ids).__name__}: number strings first, or hash "
                                 "them with regraft.tables.unified")  # fmt: skip
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise ParameterError(f"ids must be whole numbers, these are {ids.dtype}")
        if ids.numel():
            low, high = (int(end) for end in torch.aminmax(ids))
            if low < 0 or high >= self.num_embeddings:
                raise ParameterError(f"id {low if low < 0 else high} is outside the table's 0 to {self.num_embeddings - 1}")

    @torch.no_grad()
    def decompressed(self, block: int = 65536) -> torch.Tensor:
        """The whole table (n, d) that this one stands for, as it serves (in evaluation mode)."""
        was = self.training
        self.eval()
        device = next((one.device for one in [*self.parameters(), *self.buffers()]), torch.device("cpu"))
        ids = torch.arange(self.num_embeddings, device=device)
        whole = torch.cat([self._padded(self.rows(part), part) for part in torch.split(ids, block)])
        self.train(was)
        return whole

    def extra_loss(self) -> torch.Tensor | float:
        """What training adds to the model's loss since the last forward pass."""
        return 0.0

    def after_step(self) -> None:
        """Called after each step of the optimizer."""

    def again(self) -> bool:
        """Asked after `after_step`: whether the batch is to be passed once more, backwards too, with no step of the optimizer and another
        `after_step`; for what learns from the loss of rows that have just moved."""
        return False

    def set_rate(self, rate: float) -> None:
        """Called with the rate of the model's optimizer, for tables that move rows themselves and were told none."""

    def begin(self, stage: str, steps: int) -> None:
        """Called before a stage of `steps` steps."""

    def advance(self, stage: str, quality: Quality) -> "CompressedEmbedding":
        """The table for what follows `stage`: itself, or another in its place. `quality` scores the model with this table as it stands."""
        return self

    def architecture(self) -> list[nn.Parameter]:
        """Parameters that learn on validation batches, in stages that search."""
        return []

    def moved(self) -> list[nn.Parameter]:
        """Parameters that `after_step` moves by their gradients itself: no optimizer of the model may."""
        return []

    def export(self) -> "CompressedEmbedding":
        """The table as it serves: codes without what they were learned by. As it stands: itself."""
        return self

    def config(self) -> dict[str, Any]:
        """Settings by name, from which `made` builds the same table again."""
        given = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in given if name not in ("self", "counts")}

    def save(self, folder: Path) -> None:
        """Write the table into `folder`, which is there: safetensors, and a JSON that says what it is."""
        about = {"schema": SCHEMA, "method": self.name, "settings": self.config()}
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / ARRAYS)
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def load_table(folder: str | Path) -> CompressedEmbedding:
    """The table that `save` wrote, or that lies beside a model, in evaluation mode.

    Raises `InputError` where that is not what it is, or is damaged.
    """
    from regraft.method import members

    folder = Path(folder)
    if not (folder / ABOUT).is_file() and (folder / BESIDE / ABOUT).is_file():
        folder = folder / BESIDE
    if not (folder / ABOUT).is_file():
        raise InputError(f"{folder}: not a compressed table (it has no {ABOUT}): give a directory that `regraft tables compress` wrote")
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        if about["schema"] != SCHEMA:
            raise InputError(f"{folder / ABOUT}: schema {about['schema']} is not one that this version knows: use a newer regraft")
        cls: Any = {one.name: one for one in members("table")}[about["method"]]
        arrays = load_file(folder / ARRAYS)
        settings = dict(about["settings"])
        if cls.counts_rows:
            settings["counts"] = torch.ones(settings["num_embeddings"], dtype=torch.int64)
        table: CompressedEmbedding = configure(cls, settings)
        table.load_state_dict(arrays)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ParameterError) as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(f"{folder}: a damaged table, or no table ({told}): compress again") from None
    return table.eval()


def check_shape(rows: int, dim: int) -> None:
    """Raise `ParameterError` for a table without a row or a column."""
    if rows < 1 or dim < 1:
        raise ParameterError(f"a table of {rows} rows and {dim} dimensions: both must be at least 1")


def check_weight(weight: torch.Tensor) -> None:
    """Raise `ParameterError` for what is no table of finite numbers."""
    if weight.dim() != 2 or not weight.is_floating_point():
        raise ParameterError(f"a table of shape {tuple(weight.shape)} and type {weight.dtype}: give rows of real numbers, shape (n, d)")
    check_shape(*weight.shape)
    for start in range(0, len(weight), CHECKED):
        finite = weight[start : start + CHECKED].isfinite().all(1)
        if not finite.all():
            row = start + int((~finite).nonzero()[0])
            raise ParameterError(f"row {row} of the table holds NaN or infinity: remove or repair it")


def in_blocks(read: Callable[[torch.Tensor], torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """`read(ids)`, rows by ids; without gradients block by block, so that what is made on the way stays in the cache."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(ids) <= BLOCK:
        return read(ids)
    first = read(ids[:BLOCK])
    whole = first.new_empty(len(ids), *first.shape[1:])
    whole[:BLOCK] = first
    for start in range(BLOCK, len(ids), BLOCK):
        whole[start : start + BLOCK] = read(ids[start : start + BLOCK])
    return whole


def uniform(rows: int, dim: int, bound: float) -> nn.Parameter:
    """A parameter (rows, dim) drawn from U(-bound, bound), as the paper's code starts plain tables with bound sqrt(1/n)."""
    return nn.Parameter(torch.empty(rows, dim).uniform_(-bound, bound))
