"""What a reproduction claims and how the verdict falls: the effect that counts is declared before the run, the interval decides.

Enters: amounts per document (bits, tokens, seconds) of a baseline and of a method, one row a seed. Leaves: a `Claim` with the effect, its
interval by paired bootstrap over documents and seeds, and a verdict that can come out "not reproduced".
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from regraft.errors import ParameterError
from regraft.evaluation.paired import Gap, Measured, Sample, paired_effect

__all__ = ["VERDICTS", "Claim", "Declared", "Expectation", "Gap", "Measured", "Sample", "Verdict", "paired_effect"]

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "inconclusive")


@dataclass(frozen=True)
class Expectation:
    """Where the effect must lie, ends included, for the claim to hold. "At least 0.5 lower" is ``Expectation(high=-0.5)``.

    Raises `ParameterError` if no effect could satisfy or none could refute it.
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low <= self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise ParameterError(
                f"an expectation from {self.low} to {self.high} can't be tested: give at least one finite end, low <= high"
            )

    def judge(self, low: float, high: float) -> Verdict:
        """The verdict on an effect with the interval [low, high].

        "reproduced" if all of it satisfies the expectation, "not reproduced" if none of it does, "inconclusive" otherwise or if unknown.
        """
        if not low <= high:  # NaN included
            return "inconclusive"
        if low >= self.low and high <= self.high:
            return "reproduced"
        if high < self.low or low > self.high:
            return "not reproduced"
        return "inconclusive"

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"<= {self.high:g}"
        return f">= {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Claim:
    """One line of a result: what was claimed, against what, and what was found. `expected` is the declared range of `effect`."""

    claim: str
    data: str
    metric: str
    unit: str
    baseline: str
    baseline_value: float
    method_value: float
    effect: float
    interval: list[float]
    seeds: int
    verdict: Verdict
    note: str
    expected: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Declared:
    """A claim before the run: everything but the measurement. `unit` is that of the values; `kind` says how the effect is taken."""

    claim: str
    baseline: str
    expected: Expectation
    metric: str = "bits per byte"
    unit: str = "bit/byte"
    kind: Literal["difference", "ratio"] = "difference"
    note: str = ""

    def settle(self, data: str, baseline: Measured, method: Measured, note: str = "") -> Claim:
        """The claim with what was measured and its verdict; `note` is added to the declared one."""
        found = paired_effect(baseline, method, self.kind)
        notes = " ".join(part for part in (self.note, note) if part)
        return Claim(
            claim=self.claim,
            data=data,
            metric=self.metric,
            unit=self.unit,
            baseline=self.baseline,
            baseline_value=found.baseline,
            method_value=found.method,
            effect=found.effect,
            interval=[found.low, found.high],
            seeds=found.seeds,
            verdict=self.expected.judge(found.low, found.high),
            note=notes,
            expected=f"{'relative ' if self.kind == 'ratio' else ''}effect {self.expected}",
        )
