"""What a reproduction claims and how the verdict falls: the effect that counts is declared before the run, the interval decides.

Enters: amounts per document (bits, tokens, seconds) of a baseline and of a method, one row a seed. Leaves: a `Claim` with the effect, its
interval by paired bootstrap over documents and seeds, and a verdict that can come out "not reproduced".
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError
from regraft.evaluation import Score

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "inconclusive")
DRAWS = 2000
LEVEL = 0.95


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
class Sample:
    """What was measured on the same documents under each seed.

    Attributes
    ----------
    amounts : (seeds, documents) bits, tokens, bytes written: what is added up.
    sizes : (seeds, documents) bytes, seconds or ones: what the sum is divided by.
    """

    amounts: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.amounts.ndim != 2 or self.amounts.shape != self.sizes.shape or not self.amounts.size:
            raise ParameterError(f"a sample needs two equal (seeds, documents) arrays, got {self.amounts.shape} and {self.sizes.shape}")

    @classmethod
    def of(cls, amounts: Sequence[float] | npt.NDArray[Any], sizes: Sequence[float] | npt.NDArray[Any] | None = None) -> "Sample":
        """One seed: an amount a document, each of size 1 unless `sizes` says otherwise."""
        first = np.asarray(amounts, dtype=np.float64)[None]
        return cls(first, np.ones_like(first) if sizes is None else np.asarray(sizes, dtype=np.float64)[None])

    @classmethod
    def of_scores(cls, scores: Sequence[Score]) -> "Sample":
        """Bits and bytes of each document, one score a seed."""
        return cls(np.stack([s.document_bits for s in scores]), np.stack([s.document_bytes for s in scores]).astype(np.float64))

    def __sub__(self, other: "Sample") -> "Sample":
        """The gap between two samples of the same documents and seeds (or one seed against several), document by document."""
        if self.amounts.shape[1] != other.amounts.shape[1] or not np.allclose(self.sizes[:1], other.sizes[:1]):
            raise ParameterError("a gap needs two samples of the same documents")
        gap = self.amounts - other.amounts
        return Sample(gap, np.broadcast_to(self.sizes[:1], gap.shape))

    @property
    def seeds(self) -> int:
        return len(self.amounts)

    @property
    def value(self) -> float:
        """Sum over documents by sum of sizes, averaged over seeds."""
        return float((self.amounts.sum(1) / self.sizes.sum(1)).mean())

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        picked = np.bincount(documents, minlength=self.amounts.shape[1])
        return float(((self.amounts[seeds] @ picked) / (self.sizes[seeds] @ picked)).mean())


@dataclass(frozen=True)
class Effect:
    """What changed from baseline to method, with a 95 % interval."""

    baseline: float
    method: float
    effect: float
    low: float
    high: float
    seeds: int


def paired_effect(
    baseline: Sample, method: Sample, kind: Literal["difference", "ratio"] = "difference", *, draws: int = DRAWS, seed: int = 0
) -> Effect:
    """``method - baseline``, or ``method / baseline - 1``, with a percentile bootstrap interval over documents and seeds.

    Both sides see the same resampled documents in each draw, so that hard documents cancel. Sides with equally many seeds see the same
    resampled seeds too; otherwise each side draws its own.

    Raises `ParameterError` if the two are not of the same documents.
    """
    documents = baseline.amounts.shape[1]
    if method.amounts.shape[1] != documents:
        raise ParameterError(f"a paired effect needs the same documents on both sides, got {documents} and {method.amounts.shape[1]}")

    def change(before: float, after: float) -> float:
        return after - before if kind == "difference" else after / before - 1

    generator = np.random.default_rng(seed)
    values = np.empty(draws)
    for draw in range(draws):
        picked, seeds = _draw(generator, documents), _draw(generator, method.seeds)
        own = seeds if baseline.seeds == method.seeds else _draw(generator, baseline.seeds)
        values[draw] = change(baseline.resample(picked, own), method.resample(picked, seeds))
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Effect(
        baseline.value, method.value, change(baseline.value, method.value), float(low), float(high), max(baseline.seeds, method.seeds)
    )


def _draw(generator: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    return np.asarray(generator.integers(count, size=count), dtype=np.int64)


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

    def settle(self, data: str, baseline: Sample, method: Sample, note: str = "") -> Claim:
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
