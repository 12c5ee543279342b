"""What sharing does: who meets whom on a row, how long rows grow, and whether the model's read-outs turn away from each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from regraft.errors import ParameterError
from regraft.tables.unified.features import UnifiedTable


@dataclass(frozen=True)
class Collisions:
    """How many other values a value of a feature meets on its row, on average over its values.

    intra, inter : values of the same feature, of others. expected : of the same, (|V_t| - 1) / M for a fair hash.
    """

    intra: float
    inter: float
    expected: float


def collisions(table: UnifiedTable, chunk: int = 0) -> dict[str, Collisions]:
    """Collisions by feature in its look-up `chunk`; features that have no such look-up, or a table of their own, take no part.

    Raises `ParameterError` for a feature whose size is not known.
    """
    counts: dict[str, tuple[int, torch.Tensor]] = {}
    rows = [table.hashes[key][1].rows for key in table.hashes]
    for name, one in table.features.items():
        if (name, chunk) not in table.hashes:
            continue
        if one.size is None:
            raise ParameterError(f"feature {name}: its size is needed to count who meets")
        where, places = table.places(name, chunk, torch.arange(one.size))
        counts[name] = where, torch.bincount(places, minlength=rows[0])
    found = {}
    for name, (where, own) in counts.items():
        size = int(own.sum())
        everyone = sum((other for there, other in counts.values() if there == where), start=torch.zeros_like(own))
        intra, inter = float((own * (own - 1)).sum()) / size, float((own * (everyone - own)).sum()) / size
        found[name] = Collisions(intra, inter, (size - 1) / rows[0])
    return found


def mean_squared_norm(table: UnifiedTable) -> float:
    """Mean over shared rows of their squared length; it is predicted to grow like values by rows."""
    with torch.no_grad():
        rows = torch.cat([part for one in table.tables for part in one.parameters() if part.dim() == 2])
        return float(rows.square().sum(1).mean())


def angles(weight: torch.Tensor, widths: Sequence[int]) -> torch.Tensor:
    """Angles in degrees (features, features) between the blocks of a first layer's `weight` (out, sum of widths), one a feature.

    Raises `ParameterError` for blocks of different widths, which have no angle.
    """
    if len(set(widths)) > 1 or sum(widths) != weight.shape[1]:
        raise ParameterError(f"blocks of widths {list(widths)} in a weight of {weight.shape[1]} columns: give equal ones that fill it")
    blocks = torch.stack([block.flatten() for block in torch.split(weight.detach().double(), list(widths), 1)])
    unit = torch.nn.functional.normalize(blocks, dim=1)
    return torch.rad2deg(torch.acos((unit @ unit.T).clamp(-1, 1)))


def mean_angle(weight: torch.Tensor, widths: Sequence[int]) -> float:
    """Mean angle between two different features' blocks, in degrees; NaN for a single feature."""
    found = angles(weight, widths)
    pairs = found[torch.triu(torch.ones_like(found, dtype=torch.bool), 1)]
    return float(pairs.mean()) if len(pairs) else math.nan
