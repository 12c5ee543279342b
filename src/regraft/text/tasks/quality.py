"""Several tasks as one figure: the mean of theirs, with documents that can be drawn again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.comparison import Metric
from regraft.evaluation.correlation import Correlation
from regraft.evaluation.paired import Measured, Sample, resampled

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Quality:
    """`tasks` : what each task measured, by name. The documents are those of all tasks, one task after the other; of one seed."""

    tasks: Mapping[str, Measured]

    @property
    def documents(self) -> int:
        return sum(one.documents for one in self.tasks.values())

    @property
    def seeds(self) -> int:
        return 1

    @property
    def value(self) -> float:
        return float(np.mean([one.value for one in self.tasks.values()]))

    def resample(self, documents: Ints, seeds: Ints) -> float:
        """The mean over tasks, each over those of its documents that were drawn (over all of them where none was)."""
        values, start = [], 0
        for one in self.tasks.values():
            drawn = documents[(documents >= start) & (documents < start + one.documents)] - start
            values.append(one.resample(drawn if len(drawn) > 1 else np.arange(one.documents), seeds))
            start += one.documents
        return float(np.mean(values))

    def resample_many(self, times: Ints, seeds: Ints) -> npt.NDArray[np.float64]:
        """The same for many draws: documents that were drawn `times` (draws, documents); values (draws,)."""
        values, start = [], 0
        for one in self.tasks.values():
            own = times[:, start : start + one.documents]
            values.append(resampled(one, np.where(own.sum(1, keepdims=True) > 1, own, 1), seeds))
            start += one.documents
        return np.asarray(np.mean(values, axis=0))


class MeanQuality(Metric):
    """The mean over tasks as what a comparison ranks by, and how its documents stand in a kept line."""

    def to_line(self, sample: Any) -> dict[str, Any]:
        tasks = {} if sample is None else sample.tasks
        return {"tasks": {name: _kept(one) for name, one in tasks.items()}}

    def from_line(self, line: Mapping[str, Any]) -> Measured | None:
        kept = line.get("tasks") or {}
        return Quality({name: _found(one) for name, one in kept.items()}) if kept else None


def _kept(one: Any) -> dict[str, Any]:
    if isinstance(one, Correlation):
        return {"scores": one.scores.tolist(), "gold": one.gold.tolist()}
    return {"amounts": one.amounts.tolist(), "sizes": one.sizes.tolist()}


def _found(line: Mapping[str, Any]) -> Measured:
    kind = Correlation if "gold" in line else Sample
    return kind(*(np.asarray(values, dtype=np.float64) for values in line.values()))
