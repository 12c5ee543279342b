"""What was measured of one target error in one hypothesis space."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from regraft.probe.probe import Measurement

READ = "lower: the space needs less prior knowledge to reach this error; compare only at one epsilon, one space and one task"


@dataclass(frozen=True, kw_only=True)
class Bias:
    """Inductive bias in nats, and all that the figure depends on.

    Attributes
    ----------
    epsilon : the test error that must be reached. nats : -ln P(e <= epsilon), infinite where no predictor of the space reaches it.
    interval : 95 % in nats. space, sigma, jitter : the hypothesis space. n, t, k : training rows, test rows, outputs.
    mean_error : E[e]. least_error : the least of `samples` drawn ones. predictor_error : of the posterior mean (of networks: their median).
    in_range : epsilon is within the drawn errors; else the tail goes beyond them ("extrapolated"). tail : how it was taken.
    """

    epsilon: float
    nats: float
    space: str
    n: int
    t: int
    k: int
    mean_error: float
    least_error: float
    predictor_error: float
    in_range: bool
    samples: int
    tail: str
    interval: tuple[float, float] | None = None
    sigma: float | None = None
    jitter: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> float:
        return self.nats / math.log(2)

    @property
    def bits_interval(self) -> tuple[float, float] | None:
        return None if self.interval is None else (self.interval[0] / math.log(2), self.interval[1] / math.log(2))

    @property
    def measurement(self) -> Measurement:
        """As every probe's figure; the notes name epsilon and the space, for the figure means nothing without them."""
        scale = "" if self.sigma is None else f", sigma {self.sigma:.4g}"
        where = f"epsilon {self.epsilon:.4g} in {self.space}{scale}; n {self.n}, t {self.t}, k {self.k}; {self.nats:.4g} nats"
        return Measurement(
            name="inductive-bias", value=self.bits, unit="bits", interval=self.bits_interval, read=READ, notes=(where, *self.notes)
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"bits": self.bits, "bits_interval": self.bits_interval}
