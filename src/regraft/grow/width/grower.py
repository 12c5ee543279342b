"""The contract of width: a method says which maps the axes of a model get, and a checkpoint of the new width is written by them."""

import math
from abc import abstractmethod
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.checkpoint.files import dump
from regraft.checkpoint.locate import read_json
from regraft.checkpoint.rebuild import rebuild
from regraft.errors import CheckpointError
from regraft.grow.grower import Context, Grower, Grown, check_room
from regraft.grow.width.axes import Axes, Size, Width
from regraft.grow.width.difference import difference
from regraft.grow.width.maps import Plan, pieces


class WidthGrower(Grower):
    """Base of every way to another width. Size is the width of the residual stream, or a `Size`.

    Returns a checkpoint, each tensor the old one with its axes mapped.
    """

    family = "width-grower"

    @abstractmethod
    def plan(self, axes: Axes, width: Width, context: Context) -> Plan:
        """Maps for a model of `width`. Raises `ParameterError` for a width that it cannot give."""

    def check(self, source: Checkpoint, size: int | Size, out: Path, context: Context) -> None:
        size = as_size(size)
        axes = Axes.open(source)
        check_room(f"--hidden {size.hidden}", *axes.size_at(axes.width.at(size.hidden, size.ffn)), out, context)

    def said(self, size: int | Size) -> str:
        return str(as_size(size))

    def grow(self, source: Checkpoint, size: int | Size, out: Path, context: Context) -> Grown:
        size = as_size(size)
        axes = Axes.open(source)
        return write(axes, self.plan(axes, axes.width.at(size.hidden, size.ffn), context), out, self, context)


def as_size(size: int | Size) -> Size:
    return size if isinstance(size, Size) else Size(size)


def write(axes: Axes, plan: Plan, out: Path, method: WidthGrower, context: Context) -> Grown:
    """The checkpoint that `plan` makes, tensor by tensor, and how far its outputs are from the old ones on random input."""
    source = axes.checkpoint
    facts: dict[str, Any] = {"hidden": plan.width.hidden, "hidden_before": axes.width.hidden}
    facts |= {f"{name}_before": getattr(axes.width, name) for name in ("heads", "groups", "ffn")}
    facts |= {"heads": plan.width.heads, "groups": plan.width.groups, "ffn": plan.width.ffn, "exact": plan.exact, **plan.facts}
    record = provenance.record(source, "grow width", method=method.name, parameters={**vars(method), **asdict(plan.width)}, metrics=facts)
    about = partial(provenance.save, record)
    rebuild(source, out, pieces(axes, plan), axes.config(plan.width, plan.eps), files=poolings(axes, plan.width), record=about)
    found = difference(source, Checkpoint.open(out), plan, context)
    if not math.isfinite(found.largest):
        raise CheckpointError(f"{source.path}: gives outputs that are not finite on random input: look for NaN in its weights")
    facts |= {"difference": found.largest, "relative_difference": found.relative}
    exact = "computes what the old model does" if plan.exact else "does not compute exactly what the old model does"
    context.notes.append(
        f"{exact}: {plan.why}; on random input outputs differ by at most {found.largest:.2g} ({found.relative:.2g} of their size)"
    )
    new = sorted({axes.called[name] for name, places in axes.places.items() if any(places)})
    return Grown(out, tuple(new), facts)


def poolings(axes: Axes, width: Width) -> dict[str, bytes | None]:
    """Pooling modules of an encoder that say how wide its vectors are."""
    found: dict[str, bytes | None] = {}
    for path in axes.checkpoint.path.glob("*/config.json"):
        config = read_json(path, "")
        for key in ("word_embedding_dimension", "embedding_dimension"):
            if config.get(key) == axes.width.hidden:
                found[f"{path.parent.name}/config.json"] = dump(config | {key: width.hidden})
    return found
