"""Between tables of each feature and one for all (ours): rows that meet are averaged; back, each value's rows are written out."""

from collections.abc import Mapping

import torch

from regraft.errors import ParameterError
from regraft.tables.unified.features import UnifiedTable


@torch.no_grad()
def fill_from(table: UnifiedTable, weights: Mapping[str, torch.Tensor]) -> None:
    """Start `table` from a table (size, width) of each feature: a shared row is the mean of all that hash to it, or stays as it is.

    Raises `ParameterError` for tables of another shape, and for a store that is not of plain rows.
    """
    plain = [one.weight for one in table.tables if isinstance(one, torch.nn.Embedding)]
    if len(plain) < len(table.tables):
        raise ParameterError("only tables of plain rows can be started from others")
    sums = [torch.zeros_like(weight, dtype=torch.float64) for weight in plain]
    met = [torch.zeros(len(one), dtype=torch.float64) for one in sums]
    for name, feature in table.features.items():
        wanted = (feature.size, feature.width(table.dim))
        if name not in weights or tuple(weights[name].shape) != wanted:
            raise ParameterError(f"feature {name}: give a table of shape {wanted}, its size and width")
        given = weights[name]
        if name in table.exact:
            table.own[table._own[name]].weight.copy_(given)  # type: ignore[operator]  # a plain table
            continue
        for chunk in range(feature.chunks):
            where, places = table.places(name, chunk, torch.arange(len(given)))
            part = given[:, chunk * table.dim : (chunk + 1) * table.dim] if feature.join == "concat" else given
            sums[where].index_add_(0, places, part.double())
            met[where].index_add_(0, places, torch.ones(len(places), dtype=torch.float64))
    for weight, total, count in zip(plain, sums, met, strict=True):
        hit = count > 0
        weight[hit] = (total[hit] / count[hit].unsqueeze(1)).to(weight.dtype)


@torch.no_grad()
def written_out(table: UnifiedTable) -> dict[str, torch.Tensor]:
    """A plain table (size, width) of each feature. Raises `ParameterError` for a feature whose size is not known."""
    for name, feature in table.features.items():
        if feature.size is None:
            raise ParameterError(f"feature {name}: its size is needed to write its rows out")
    whole: dict[str, torch.Tensor] = {}
    for name, feature in table.features.items():
        ids = torch.arange(feature.size or 0)
        rows = table._exact(name, ids) if name in table.exact else _shared(table, name, ids)
        whole[name] = table._finished(feature, rows, ids, None)
    return whole


def _shared(table: UnifiedTable, name: str, ids: torch.Tensor) -> torch.Tensor:
    found = [table.places(name, chunk, ids) for chunk in range(table.features[name].chunks)]
    return torch.stack([table.tables[where](places) for where, places in found], 1)
