"""The contract of a probe: it measures a representation and says how to read the figure."""

from dataclasses import dataclass
from typing import Any

from regraft.method import Described


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure.

    Attributes
    ----------
    name : what is measured. value : the figure; NaN where it is not defined for this representation. unit : of the figure.
    interval : 95 %, low and high, and how it came is in `notes`; None where there is none.
    read : one line for people: which way is better, and what the figure does not say.
    notes : what the user should know of this measurement, such as rows that were left out.
    """

    name: str
    value: float
    unit: str
    read: str
    interval: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "interval": None if self.interval is None else list(self.interval),
            "read": self.read,
            "notes": list(self.notes),
        }


class Probe(Described):
    """Base of every probe. It goes beside the host's type: a `torchmetrics.Metric` for what can be streamed, a `Method` for the rest."""

    family = "probe"
