"""Maps that widen a whole model by copies, exact where that can be had."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from regraft.grow.width.axes import Axes, Axis, Width
from regraft.grow.width.duplicates import Ids, Split, copies, duplicated, heads_of, silent
from regraft.grow.width.maps import Maps, Plan

Uneven = Literal["silent", "copies"]


def widened(axes: Axes, width: Width, *, random: np.random.Generator, split: Split = "even", uneven: Uneven = "silent") -> Plan:
    """The model's axes with copies: neurons and groups drawn by chance for each layer, the residual stream in turn.

    `uneven` : what the residual stream gets where the new width is no multiple of the old one: silent units under RMSNorm, or copies.
    """
    old, new = axes.width, width
    eps, multiple = 1.0, new.hidden % old.hidden == 0
    if multiple or uneven == "copies" or axes.takes_mean:
        hidden = duplicated(copies(old.hidden, new.hidden), old.hidden, split, random)
    else:
        hidden, eps = silent(old.hidden, new.hidden, random), old.hidden / new.hidden
    return Plan(
        new,
        {"hidden": hidden, **by_layer(axes, width, lambda before, after: duplicated(copies(before, after, random), before, split, random))},
        exact=multiple or eps != 1.0,
        why=reason(axes, width, silent=eps != 1.0),
        eps=eps,
    )  # fmt: skip


def by_layer(axes: Axes, width: Width, made: Callable[[int, int], Maps]) -> dict[Axis, list[Maps]]:
    """Maps of neurons and heads for each layer, each made of an old and a new number."""
    found: dict[Axis, list[Maps]] = {"ffn": [], "heads": [], "groups": []}
    for _ in range(axes.depth):
        found["ffn"].append(made(axes.width.ffn, width.ffn))
        for axis, maps in heads_of(axes.width, made(axes.width.groups, width.groups)).items():
            found[axis].append(maps)
    return found


def reason(axes: Axes, width: Width, *, silent: bool) -> str:
    """Why copies keep the function, or not."""
    old, new = axes.width.hidden, width.hidden
    if new % old == 0:
        return f"each unit of the residual stream has {new // old} copies, so norms see what they saw"
    if silent:
        return f"{new - old} units of the residual stream are silent, and RMSNorm's weights and epsilon make up for them"
    norm = "LayerNorm" if axes.takes_mean else "RMSNorm"
    return f"{new} is no multiple of {old}, so some units of the residual stream have more copies than others, which {norm} sees"


def origins(maps: Maps) -> Ids:
    """Old unit of each new one, of maps that copy."""
    return np.asarray(maps.write.weights.indices, dtype=np.int64)
