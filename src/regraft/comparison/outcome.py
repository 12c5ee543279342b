"""What was measured of one arm: its row of the table, and beside it what does not fit there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from regraft.evaluation.paired import Measured, Sample

Row = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """What arms are ranked by: `name` in a row, and `<name>_after` where the arm was trained; the better way is `direction`.

    As it stands it is the quotient of two sums over documents; `amounts` and `sizes` are what a kept line calls the summands. A family with
    another figure (a rank correlation, a mean over tasks) derives from it and says how its sample is kept.
    """

    name: str
    direction: Literal["low", "high"] = "low"
    amounts: str = "amounts"
    sizes: str = "sizes"

    @property
    def after(self) -> str:
        return f"{self.name}_after"

    def cost(self, value: float) -> float:
        """`value`, such that less is better."""
        return value if self.direction == "low" else -value

    def to_line(self, sample: Any) -> dict[str, Any]:
        """What a kept line holds of a sample (None: of none)."""
        amounts, sizes = ([], []) if sample is None else (_plain(sample.amounts), _plain(_whole(sample.sizes)))
        return {self.amounts: amounts, self.sizes: sizes}

    def from_line(self, line: Mapping[str, Any]) -> Measured | None:
        """The sample that `to_line` kept."""
        given = [np.atleast_2d(np.asarray(line.get(name, ()), dtype=np.float64)) for name in (self.amounts, self.sizes)]
        return Sample(*given) if given[0].size else None


@dataclass
class Outcome:
    """A row (`method`, the metric before and after training, `error`, and what else the family shows), the `sample` behind the metric as
    it stands last, the `curve` of training, `notes`, and the `digest` of what was measured: arms with the same one are the same thing.
    """

    row: Row
    sample: Measured | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    digest: str = ""

    @property
    def name(self) -> str:
        return str(self.row["method"])

    @property
    def error(self) -> str | None:
        found: str | None = self.row.get("error")
        return found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Whatever fails inside is this row's error, and the others go on."""
        try:
            yield
        except Exception as error:
            self.row["error"] = f"{type(error).__name__}: {error}"

    def to_line(self, metric: Metric) -> dict[str, Any]:
        """As plain data for JSON; sizes that are whole numbers are written so."""
        sample = metric.to_line(self.sample)
        return {"row": dict(self.row), "curve": list(self.curve), "notes": list(self.notes), **sample, "digest": self.digest}

    @classmethod
    def from_line(cls, line: Mapping[str, Any], metric: Metric) -> "Outcome":
        """What `to_line` wrote."""
        curve = [(float(x), float(y)) for x, y in line.get("curve", ())]
        return cls(dict(line["row"]), metric.from_line(line), curve, list(line.get("notes", ())), line.get("digest", ""))


def _whole(sizes: Any) -> Any:
    return sizes.astype(np.int64) if np.array_equal(sizes, np.round(sizes)) else sizes


def _plain(values: Any) -> list[Any]:
    """One list a seed, or only the list where there is one seed."""
    found: list[Any] = (values[0] if len(values) == 1 else values).tolist()
    return found
