"""All encoders by all heads: what each head gets right on each encoder's vectors, in absolute and relative coordinates and translated.

Enters: each encoder's vectors of the same training, test and anchor samples. Leaves: `Stitching`, with what is right for every test sample
and seed, so that intervals can be drawn. A cell whose dimensions do not fit is empty, not padded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from regraft.align.aligner import Aligner
from regraft.align.aligners.relative_representations import RelativeSpace
from regraft.align.aligners.semantic_alignment import SemanticAlignment
from regraft.align.stitching.head import HeadSettings, Rows, fit_head, predict
from regraft.errors import ParameterError
from regraft.progress import progress_bar

ABSOLUTE, RELATIVE, PROCRUSTES = "absolute", "relative", "procrustes"


@dataclass(frozen=True)
class Encoded:
    """One encoder's vectors of the training, test and anchor samples: (n, d), (m, d), (k, d). Raises `ParameterError` for other shapes."""

    train: Rows
    test: Rows
    anchors: Rows

    def __post_init__(self) -> None:
        shapes = [one.shape for one in (self.train, self.test, self.anchors)]
        if any(len(shape) != 2 or not shape[0] for shape in shapes) or len({shape[1] for shape in shapes}) > 1:
            raise ParameterError(f"stitching: vectors of shape {', '.join(map(str, shapes))}: give rows of one dimension for all three")
        if not all(np.isfinite(one).all() for one in (self.train, self.test, self.anchors)):
            raise ParameterError("stitching: NaN or infinity among an encoder's vectors: encode the samples anew")

    @property
    def dim(self) -> int:
        return int(self.train.shape[1])


@dataclass(frozen=True)
class Cell:
    """What the head trained on `head`'s vectors gets right on `encoder`'s: (seeds, tests) truth values, None where dimensions differ."""

    encoder: str
    head: str
    way: str
    correct: npt.NDArray[np.bool_] | None

    @property
    def stitched(self) -> bool:
        return self.encoder != self.head

    @property
    def accuracy(self) -> float | None:
        return None if self.correct is None else float(self.correct.mean())

    @property
    def std(self) -> float | None:
        """Over seeds; None where there is one."""
        return None if self.correct is None or len(self.correct) < 2 else float(self.correct.mean(1).std(ddof=1))


@dataclass(frozen=True)
class Stitching:
    """Every cell of every way."""

    cells: tuple[Cell, ...]

    @property
    def ways(self) -> list[str]:
        return list(dict.fromkeys(cell.way for cell in self.cells))

    def of(self, way: str, *, stitched: bool | None = None) -> list[Cell]:
        """Cells of one way that have a value; only stitched ones, or only those of a head on its own encoder, where asked."""
        return [c for c in self.cells if c.way == way and c.correct is not None and stitched in (None, c.stitched)]

    def rows(self) -> list[dict[str, Any]]:
        """One row an encoder and a head, one column a way: mean accuracy ± standard deviation over seeds."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for cell in self.cells:
            row = found.setdefault((cell.encoder, cell.head), {"encoder": cell.encoder, "head": cell.head})
            spread = "" if cell.std is None else f" ± {cell.std:.3f}"
            row[cell.way] = None if cell.accuracy is None else f"{cell.accuracy:.3f}{spread}"
        return list(found.values())

    def summary(self) -> list[dict[str, Any]]:
        """One row a way: mean accuracy of heads on their own encoder, of stitched ones, and the worst of those."""
        found = []
        for way in self.ways:
            own, other = ([c.accuracy for c in self.of(way, stitched=one)] for one in (False, True))
            found.append({"way": way, "own encoder": _mean(own), "stitched": _mean(other), "worst stitched": min(other, default=None)})  # type: ignore[type-var]
        return found


def _mean(values: Iterable[float | None]) -> float | None:
    found = [one for one in values if one is not None]
    return float(np.mean(found)) if found else None


def stitching_matrix(
    encoders: Mapping[str, Encoded],
    labels: tuple[Sequence[Any] | npt.NDArray[Any], Sequence[Any] | npt.NDArray[Any]],
    *,
    heads: Sequence[str] | None = None,
    relative: RelativeSpace | None = None,
    translators: Mapping[str, Aligner] | None = None,
    head: HeadSettings | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> Stitching:
    """Train a head a seed for each of `heads` (default all encoders) and read every encoder with it.

    Parameters
    ----------
    encoders : name -> vectors of the same samples in the same order.
    labels : classes of the training and the test samples.
    relative : settings of the relative coordinates (paper: cosines). It is fitted on each encoder's anchors.
    translators : maps that bring an encoder's vectors to the head's, fitted on the anchors, by name; default the orthogonal one of
        `SemanticAlignment`, "procrustes".
    head : the classifier, the same for all ways.

    Raises `ParameterError`: numbers of samples that differ, one class, a head whose encoder is not there.
    """
    known = np.unique(np.asarray(labels[0]))
    train, test = _numbered(np.asarray(labels[0]), known), _numbered(np.asarray(labels[1]), known)
    _check(encoders, (train, test), heads, len(known))
    relative, head = relative or RelativeSpace(), head or HeadSettings()
    translators = {PROCRUSTES: SemanticAlignment()} if translators is None else translators
    spaces = {name: clone(relative).fit(one.anchors) for name, one in encoders.items()}
    seen = {name: spaces[name].transform(one.test) for name, one in encoders.items()}
    names = list(encoders) if heads is None else list(heads)
    right: dict[tuple[str, str, str], list[npt.NDArray[np.bool_]]] = {}
    with progress_bar("stitching", 2 * len(names) * len(seeds), "heads") as bar:
        for own in names:
            fits = {(other, way): clone(one).fit(encoders[other].anchors, encoders[own].anchors)
                    for other in encoders for way, one in translators.items() if other != own}  # fmt: skip
            moved = {key: one.transform(encoders[key[0]].test) for key, one in fits.items()}
            described = spaces[own].transform(encoders[own].train)
            for seed in seeds:
                absolute = fit_head(encoders[own].train, train, len(known), head, seed)
                bar.advance()
                for other, given in encoders.items():
                    if given.dim == encoders[own].dim:
                        right.setdefault((other, own, ABSOLUTE), []).append(predict(absolute, given.test) == test)
                    for way in translators:
                        rows = given.test if other == own else moved[other, way]
                        right.setdefault((other, own, way), []).append(predict(absolute, rows) == test)
                reader = fit_head(described, train, len(known), head, seed)
                bar.advance()
                for other in encoders:
                    right.setdefault((other, own, RELATIVE), []).append(predict(reader, seen[other]) == test)
    cells = []
    for way in (ABSOLUTE, RELATIVE, *translators):
        for other in encoders:
            for own in names:
                found = right.get((other, own, way))
                cells.append(Cell(other, own, way, None if found is None else np.stack(found)))
    return Stitching(tuple(cells))


def _numbered(labels: npt.NDArray[Any], known: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The number of each label among `known`; one that training never shows is -1 and can only be missed."""
    place = np.searchsorted(known, labels).clip(max=len(known) - 1)
    return np.where(known[place] == labels, place, -1).astype(np.int64)


def _check(encoders: Mapping[str, Encoded], labels: tuple[Any, Any], heads: Sequence[str] | None, classes: int) -> None:
    missing = [name for name in heads or () if name not in encoders]
    if not encoders or missing:
        raise ParameterError(f"stitching: no encoder {missing or 'given'}: there are {', '.join(encoders) or 'none'}")
    sizes = {(len(one.train), len(one.test), len(one.anchors)) for one in encoders.values()}
    if len(sizes) > 1:
        raise ParameterError(f"stitching: encoders with {sorted(sizes)} training, test and anchor rows: encode the same samples with all")
    if (len(labels[0]), len(labels[1])) != next(iter(sizes))[:2]:
        raise ParameterError(f"stitching: {len(labels[0])} and {len(labels[1])} labels for {next(iter(sizes))[:2]} rows: give one a row")
    if classes < 2:
        raise ParameterError("stitching: one class: give samples of at least two")
