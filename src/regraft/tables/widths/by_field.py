"""Which field of a fused table an id belongs to, and rows made field by field.

Enters: ids of a fused table, those of field f counted from where it starts. Leaves: rows (m, d), whatever is held for each field.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from regraft.errors import ParameterError


def fields_of(method: str, fields: Sequence[int] | None, rows: int) -> tuple[int, ...]:
    """Sizes of the fields of a table of `rows` rows; one field where nothing is said.

    Raises `ParameterError` where they do not add up.
    """
    sizes = (rows,) if fields is None else tuple(fields)
    if sum(sizes) != rows or min(sizes, default=0) < 1:
        raise ParameterError(f"{method}: fields of {list(sizes)} ids for a table of {rows}: each at least 1, and {rows} together")
    return sizes


def starts_of(sizes: Sequence[int]) -> torch.Tensor:
    """The first id of each field (fields,)."""
    return torch.tensor([0, *sizes[:-1]]).cumsum(0)


def field_of(ids: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """The field of each of `ids`."""
    return torch.bucketize(ids, starts[1:], right=True)


def apart(ids: torch.Tensor, starts: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """(field, places in `ids`, ids counted within the field) for each field that occurs in `ids` (m,)."""
    if len(starts) == 1:
        yield 0, torch.arange(len(ids), device=ids.device), ids
        return
    field = field_of(ids, starts)
    counts = torch.bincount(field, minlength=len(starts)).tolist()
    for number, places in enumerate(torch.split(torch.argsort(field, stable=True), counts)):
        if len(places):
            yield number, places, ids[places] - starts[number]


def by_field(ids: torch.Tensor, starts: torch.Tensor, made: Callable[[int, torch.Tensor], torch.Tensor], dim: int) -> torch.Tensor:
    """Rows (m, d) of ids (m,): `made(field, ids within it)` gives those of one field."""
    places, rows = [], []
    for field, here, own in apart(ids, starts):
        places.append(here)
        rows.append(made(field, own))
    if len(rows) == 1:
        return rows[0]
    found = torch.cat(rows) if rows else torch.empty(0, dim)
    return torch.empty_like(found).index_copy(0, torch.cat(places), found) if rows else found
