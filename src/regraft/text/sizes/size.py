"""A size of an encoder: its first layers, the first dimensions of its vectors. Which sizes are trained, and where that is kept.

Enters: what the user wrote. Leaves: checked sizes, small to large. A trained model carries its sizes in the config of its transformer, so
every library keeps them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regraft.errors import CheckpointError, ParameterError

Size = tuple[int, int]
PAPER: tuple[Size, ...] = ((2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768))  # Demi, Short, Tall, Grande, Venti, Trenta
COUNT = 6
LISTS = ("diagonal", "grid", "depth", "width")
KEY = "regraft_sizes"  # in the transformer's config


def sizes_of(full: Size, wanted: str | Sequence[Sequence[int]] = "diagonal", count: int = COUNT) -> tuple[Size, ...]:
    """Sizes of an encoder of `full` = (layers, dimensions), in the order given, the full one added at the end where it is missing.

    Parameters
    ----------
    wanted : "diagonal" (the paper's list where it fits, else `count` evenly spaced layers with dimensions halving from the full ones),
        "grid" (all layers of the diagonal by all its dimensions), "depth" (its layers, all dimensions), "width" (all layers, its
        dimensions); or sizes as "2,32 4,64", or as pairs.

    Raises `ParameterError` for sizes that are none of this encoder, or stand there twice.
    """
    if isinstance(wanted, str) and wanted in LISTS:
        return _listed(full, wanted, count)
    pairs = [parse_size(one) for one in wanted.split()] if isinstance(wanted, str) else [_pair(one) for one in wanted]
    for layers, dimensions in pairs:
        if not (0 <= layers <= full[0] and 0 < dimensions <= full[1]):
            raise ParameterError(f"size {layers},{dimensions}: this encoder has {full[0]} layers and {full[1]} dimensions")
    if len(set(pairs)) < len(pairs) or not pairs:
        raise ParameterError(f"sizes {written(pairs) or 'none'}: give each size once, at least one")
    return tuple(pairs) if full in pairs else (*pairs, full)


def parse_size(text: str) -> Size:
    """`"4,96"` -> (4, 96). Raises `ParameterError`."""
    parts = text.replace("x", ",").split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise ParameterError(f"size '{text}': write layers and dimensions with a comma between, as 4,96 ({', '.join(LISTS)} are lists)")
    return int(parts[0]), int(parts[1])


def written(sizes: Sequence[Size]) -> str:
    return " ".join(f"{layers},{dimensions}" for layers, dimensions in sizes)


@dataclass(frozen=True)
class Kept:
    """What a trained model says of its sizes. `normalize` : vectors of a size have length 1."""

    sizes: tuple[Size, ...]
    normalize: bool

    def check(self, size: Size) -> None:
        """Raise `ParameterError` that names the nearest ones for a size that was not trained."""
        if size in self.sizes:
            return
        near = " or ".join(written([one]) for one in self.nearest(size))
        raise ParameterError(f"size {written([size])} was not trained: the nearest are {near} (trained: {written(self.sizes)})")

    def nearest(self, size: Size, count: int = 2) -> list[Size]:
        deepest = max(layers for layers, _ in self.sizes)

        def distance(one: Size) -> float:
            return abs(one[0] - size[0]) / max(deepest, 1) * COUNT + abs(math.log2(one[1] / max(size[1], 1)))

        return sorted(self.sizes, key=distance)[:count]


def keep(config: Any, sizes: Sequence[Size], *, normalize: bool) -> None:
    """Write the sizes into a transformer's config, small to large."""
    setattr(config, KEY, {"sizes": sorted([list(one) for one in sizes]), "normalize": normalize})


def kept(config: Any, name: str = "this model") -> Kept:
    """The sizes that a model was trained at. Raises `CheckpointError` for a model that was not trained so."""
    found = getattr(config, KEY, None)
    if found is None:
        raise CheckpointError(
            f"{name}: it was not trained at any size but its own; do so with `regraft text train {name} --method starbucks ...`"
        )
    try:
        return Kept(tuple(_pair(one) for one in found["sizes"]), bool(found["normalize"]))
    except (KeyError, TypeError, ParameterError):
        raise CheckpointError(f"{name}: {KEY} in its config.json is damaged: {found!r}") from None


def _listed(full: Size, wanted: str, count: int) -> tuple[Size, ...]:
    diagonal = PAPER if full == PAPER[-1] and count == COUNT else _diagonal(full, count)
    layers, dimensions = zip(*diagonal, strict=True)
    return {
        "diagonal": diagonal,
        "grid": tuple((n, d) for n in layers for d in dimensions),
        "depth": tuple((n, full[1]) for n in layers),
        "width": tuple((full[0], d) for d in dimensions),
    }[wanted]


def _diagonal(full: Size, count: int) -> tuple[Size, ...]:
    """Evenly spaced layers that end at the last, dimensions that halve from all of them; fewer where the encoder is small (INFERRED)."""
    if count < 1:
        raise ParameterError(f"count={count}: at least one size")
    depth, width = full
    count = min(count, depth, width.bit_length())
    return tuple((max(1, round(depth * step / count)), width >> (count - step)) for step in range(1, count + 1))


def _pair(one: Any) -> Size:
    if isinstance(one, str):
        return parse_size(one)
    if not isinstance(one, Sequence) or len(one) != 2 or not all(isinstance(part, int) and not isinstance(part, bool) for part in one):
        raise ParameterError(f"size {one!r}: a pair of layers and dimensions, such as [4, 96]")
    return int(one[0]), int(one[1])
