"""Features that look up one table: enters a batch of raw values by feature, leaves a vector for each feature.

The table has M rows of width d; feature t takes n_t look-ups, each by a hash of its own, beside each other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn
from torch.nn.functional import embedding

from regraft.errors import ParameterError
from regraft.tables.embedding import CompressedEmbedding
from regraft.tables.memory import WORD, Memory, parse_budget
from regraft.tables.unified.salted import Salted, numbers_of

Values = torch.Tensor | Sequence[str]
Bags = tuple[Values, torch.Tensor]
Store = Callable[[int, int], nn.Module]
START = 0.05


@dataclass(frozen=True)
class Feature:
    """A categorical feature.

    name : the salt of its hashes. size : how many values it has, where that is known; they are then 0 to size - 1.
    chunks : n_t, its look-ups. join : whether these stand beside each other ("concat", width n_t d) or are averaged ("mean", ours).
    pooling : of a bag of values, "sum" or "mean", for each chunk before they are joined. padding : a value that is a zero vector.
    """

    name: str
    size: int | None = None
    chunks: int = 1
    join: Literal["concat", "mean"] = "concat"
    pooling: Literal["sum", "mean"] = "mean"
    padding: int | str | None = None

    def width(self, dim: int) -> int:
        return dim * (self.chunks if self.join == "concat" else 1)


class UnifiedTable(nn.Module):
    """One table, or K of `rows` / K rows each, for all `features` (Feature Multiplexing; Unified Embedding with several chunks).

    Parameters
    ----------
    features : their names differ. Look-ups are dealt to the K tables in turn, in the order in which features and chunks are declared; with
        one table the order makes no difference.
    rows, dim : M and d. tables : K, a divisor of M.
    exact_below : features of at most so many values have a plain table of their own (chunks then make it wider).
    sparse : whether gradients are sparse. seed : of all hashes.
    store : builds each physical table of (rows, dim); by default rows from U(-0.05, 0.05). A compressed table here is the multiplexed
        variant of its method: `lambda rows, dim: CompoEmbedding(rows, dim, remainders=100)`.

    Raises `ParameterError` for names that are there twice, and K that does not divide M.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        rows: int,
        dim: int,
        *,
        tables: int = 1,
        exact_below: int = 0,
        sparse: bool = False,
        seed: int = 0,
        store: Store | None = None,
    ) -> None:
        super().__init__()
        if len({one.name for one in features}) < len(features) or not features:
            raise ParameterError("features: give at least one, each with a name of its own")
        if any(one.chunks < 1 for one in features):
            raise ParameterError("features: chunks must be at least 1")
        if rows < 1 or dim < 1 or tables < 1 or rows % tables:
            raise ParameterError(f"rows={rows}, dim={dim}, tables={tables}: all at least 1, and the tables must divide the rows")
        self.features, self.dim, self.sparse, self.seed = {one.name: one for one in features}, dim, sparse, seed
        self.exact = {one.name for one in features if one.size is not None and one.size <= exact_below}
        self.tables = nn.ModuleList((store or self._plain)(rows // tables, dim) for _ in range(tables))
        own = {name: self._plain(self.features[name].size or 1, self.features[name].width(dim)) for name in sorted(self.exact)}
        self.own = nn.ModuleList(own.values())
        self._own = {name: place for place, name in enumerate(own)}
        lookups = [(one.name, chunk) for one in features if one.name not in self.exact for chunk in range(one.chunks)]
        self.hashes = {
            (name, chunk): (place % tables, Salted.of(name, chunk, rows // tables, seed)) for place, (name, chunk) in enumerate(lookups)
        }

    def _plain(self, rows: int, dim: int) -> nn.Embedding:
        return nn.Embedding(rows, dim, sparse=self.sparse, _weight=torch.empty(rows, dim).uniform_(-START, START))

    @classmethod
    def from_budget(cls, features: Sequence[Feature], dim: int, budget: str | float, *, tables: int = 1, sparse: bool = False,
                    exact_below: int = 0, seed: int = 0) -> Self:  # fmt: skip
        """As many rows as `budget` ("12MB", or a share of plain tables where every size is known) has room for, exact tables counted."""
        known = all(one.size is not None for one in features)
        if not known and not str(budget).strip().upper().endswith("B"):
            raise ParameterError(f"--budget {budget}: a share needs the size of every feature: give bytes, as 12MB")
        plain = sum((one.size or 0) * one.width(dim) for one in features) if known else 2**60
        exact = sum(one.size * one.width(dim) for one in features if one.size is not None and one.size <= exact_below)
        rows = int((parse_budget(budget, plain) - exact) // dim) // tables * tables
        if rows < 1:
            raise ParameterError(f"--budget {budget}: no room for a row in each table: the least is {(exact + tables * dim) * WORD} bytes")
        return cls(features, rows, dim, tables=tables, sparse=sparse, exact_below=exact_below, seed=seed)

    def forward(self, batch: Mapping[str, Values | Bags]) -> dict[str, torch.Tensor]:
        """Vectors (b, width of the feature) by feature.

        batch : for each feature its values (b,), whole numbers or strings; or a pair of values (m,) and offsets (b,): where
            each bag begins.
        Raises `ParameterError` for a feature that is missing or unknown, and for values outside an exact table.
        """
        if batch.keys() != self.features.keys():
            differ = sorted(batch.keys() ^ self.features.keys())
            raise ParameterError(f"the batch and the features differ in {', '.join(differ)}")
        read = {name: self._values(name, given) for name, given in batch.items()}
        vectors = self._looked_up({name: ids for name, (ids, _) in read.items() if name not in self.exact})
        for name in self.exact & read.keys():
            vectors[name] = self._exact(name, read[name][0])
        return {name: self._finished(self.features[name], vectors[name], *read[name]) for name in batch}

    def concatenated(self, batch: Mapping[str, Values | Bags]) -> torch.Tensor:
        """Vectors of all features beside each other, in the order of their declaration."""
        found = self(batch)
        return torch.cat([found[name] for name in self.features], 1)

    def places(self, name: str, chunk: int, ids: torch.Tensor) -> tuple[int, torch.Tensor]:
        """The number of the physical table, and the rows there, of `ids` in one look-up of a feature."""
        table, hashed = self.hashes[name, chunk]
        return table, hashed(ids)

    def _looked_up(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rows (m, chunks, d) by feature: one `index_select` a physical table for all look-ups in it."""
        asked: list[list[torch.Tensor]] = [[] for _ in self.tables]
        whose: list[list[tuple[str, int]]] = [[] for _ in self.tables]
        for (name, chunk), (table, hashed) in self.hashes.items():
            asked[table].append(hashed(values[name]))
            whose[table].append((name, chunk))
        found: dict[tuple[str, int], torch.Tensor] = {}
        for store, places, keys in zip(self.tables, asked, whose, strict=True):
            if places:
                found |= zip(keys, torch.split(store(torch.cat(places)), [len(one) for one in places]), strict=True)
        return {name: torch.stack([found[name, chunk] for chunk in range(self.features[name].chunks)], 1) for name in values}

    def _exact(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        size, padding = self.features[name].size or 0, self.features[name].padding
        if padding is not None:
            ids = ids.masked_fill(ids == _number_of(padding), 0)  # its vector is set to zero afterwards
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < size:
            raise ParameterError(f"feature {name}: values outside 0 to {size - 1} of its exact table")
        weight = self.own[self._own[name]].weight
        return embedding(ids, weight, sparse=self.sparse).unsqueeze(1)  # type: ignore[arg-type]  # a plain table

    def _values(self, name: str, given: Values | Bags) -> tuple[torch.Tensor, torch.Tensor | None]:
        values, offsets = given if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], torch.Tensor) else (given, None)
        ids = values if isinstance(values, torch.Tensor) else numbers_of([str(one) for one in values])
        if ids.dim() != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
            raise ParameterError(f"feature {name}: give values (b,), whole numbers or strings, or a pair of values and offsets")
        return ids.long(), offsets

    def _finished(self, feature: Feature, rows: torch.Tensor, ids: torch.Tensor, offsets: torch.Tensor | None) -> torch.Tensor:
        """Padding taken out, bags pooled chunk by chunk, chunks joined."""
        kept = torch.ones_like(ids, dtype=rows.dtype) if feature.padding is None else (ids != _number_of(feature.padding)).to(rows.dtype)
        if feature.padding is not None:
            rows = rows * kept.view(-1, 1, 1)
        if offsets is not None:
            bag = torch.searchsorted(offsets.contiguous(), torch.arange(len(ids), device=ids.device), right=True) - 1
            rows = rows.new_zeros(len(offsets), *rows.shape[1:]).index_add(0, bag, rows)
            if feature.pooling == "mean":
                rows = rows / kept.new_zeros(len(offsets)).index_add(0, bag, kept).clamp(min=1).view(-1, 1, 1)
        return rows.mean(1) if feature.join == "mean" and feature.name not in self.exact else rows.flatten(1)

    def memory(self) -> Memory:
        """What the shared rows and the exact tables take."""
        shared = sum(
            table.memory().serving_words if isinstance(table, CompressedEmbedding) else sum(p.numel() for p in table.parameters())
            for table in self.tables
        )
        exact = sum(p.numel() for p in self.own.parameters())
        return Memory({"shared rows": shared, "exact tables": exact} if exact else {"shared rows": shared})


def split_rows(sizes: Sequence[int], rows: int) -> list[int]:
    """`rows` dealt over features in proportion to their sizes: never none, never more than a size, exactly `rows` in all (at most the sum).

    The arm without multiplexing in a comparison at equal parameters. Raises `ParameterError` for fewer rows than features.
    """
    if rows < len(sizes):
        raise ParameterError(f"{rows} rows for {len(sizes)} features: each needs one")
    rows = min(rows, sum(sizes))
    dealt = [max(1, min(size, size * rows // sum(sizes))) for size in sizes]
    order = sorted(range(len(sizes)), key=lambda place: (-sizes[place], place))
    while (left := rows - sum(dealt)) != 0:
        step = 1 if left > 0 else -1
        free = [place for place in order if (dealt[place] < sizes[place] if step > 0 else dealt[place] > 1)]
        for place in free[: abs(left)]:
            dealt[place] += step
    return dealt


def _number_of(value: int | str) -> int:
    return value if isinstance(value, int) else int(numbers_of([value])[0])
