"""The difference between two ways on the same documents: a percentile bootstrap that draws documents and seeds together for both.

Enters: what each document adds up to (bits, tokens, true positives) and what that is divided by (bytes, words, all positives), one row a
seed. Leaves: the change from one way to the other, with a 95 % interval in which hard documents cancel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError
from regraft.evaluation.score import Score

DRAWS = 2000
LEVEL = 0.95
CELLS = 1_000_000  # draws times documents that are held at a time
Ints = npt.NDArray[np.int64]


class Measured(Protocol):
    """What documents were measured to be under each seed, such that documents and seeds can be drawn again."""

    @property
    def documents(self) -> int: ...

    @property
    def seeds(self) -> int: ...

    @property
    def value(self) -> float:
        """Over all documents, averaged over seeds."""
        ...

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        """The value over drawn `documents` and `seeds`, indices that may repeat."""
        ...


@runtime_checkable
class ManyDraws(Protocol):
    """What takes many draws at once, because one at a time is slow (ranks)."""

    def resample_many(self, times: Ints, seeds: Ints) -> npt.NDArray[np.float64]:
        """Values (draws,) over documents that were drawn `times` (draws, documents) and over `seeds` (draws, seeds)."""
        ...


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

    def __sub__(self, other: "Sample") -> "Gap":
        """The gap between two samples of the same documents and seeds (or several seeds against one)."""
        return Gap(self, other)

    @property
    def documents(self) -> int:
        return int(self.amounts.shape[1])

    @property
    def seeds(self) -> int:
        return len(self.amounts)

    @property
    def value(self) -> float:
        """Sum over documents by sum of sizes, averaged over seeds."""
        return float(_share(self.amounts.sum(1), self.sizes.sum(1)).mean())

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        picked = np.bincount(documents, minlength=self.amounts.shape[1])
        return float(_share(self.amounts[seeds] @ picked, self.sizes[seeds] @ picked).mean())


@dataclass(frozen=True)
class Gap:
    """How far one sample's value is above another's; both see the same resampled documents and seeds."""

    above: Sample
    below: Sample

    def __post_init__(self) -> None:
        if self.above.documents != self.below.documents or self.below.seeds not in (1, self.above.seeds):
            raise ParameterError("a gap needs two samples of the same documents and seeds")

    @property
    def documents(self) -> int:
        return self.above.documents

    @property
    def seeds(self) -> int:
        return self.above.seeds

    @property
    def value(self) -> float:
        return self.above.value - self.below.value

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        own = seeds if self.below.seeds == self.above.seeds else np.zeros_like(seeds)
        return self.above.resample(documents, seeds) - self.below.resample(documents, own)


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
    baseline: Measured, method: Measured, kind: Literal["difference", "ratio"] = "difference", *, draws: int = DRAWS, seed: int = 0
) -> Effect:
    """``method - baseline``, or ``method / baseline - 1``, with a percentile bootstrap interval over documents and seeds.

    Both sides see the same resampled documents in each draw, so that hard documents cancel. Sides with equally many seeds see the same
    resampled seeds too; otherwise each side draws its own.

    Raises `ParameterError` if the two are not of the same documents.
    """
    documents = baseline.documents
    if method.documents != documents:
        raise ParameterError(f"a paired effect needs the same documents on both sides, got {documents} and {method.documents}")

    def change(before: Any, after: Any) -> Any:
        return after - before if kind == "difference" else after / before - 1

    generator, values = np.random.default_rng(seed), []
    for start in range(0, draws, block := max(1, CELLS // max(documents, 1))):
        drawn: list[tuple[Ints, Ints, Ints]] = []
        for _ in range(start, min(start + block, draws)):
            picked, seeds = _draw(generator, documents), _draw(generator, method.seeds)
            drawn.append((picked, seeds, seeds if baseline.seeds == method.seeds else _draw(generator, baseline.seeds)))
        picks, ours, theirs = ([*column] for column in zip(*drawn, strict=True))
        values.append(change(_over(baseline, picks, theirs), _over(method, picks, ours)))
    low, high = np.quantile(np.concatenate(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Effect(
        baseline.value, method.value, change(baseline.value, method.value), float(low), float(high), max(baseline.seeds, method.seeds)
    )


def resampled(measured: Measured, times: Ints, seeds: Ints) -> npt.NDArray[np.float64]:
    """Values (draws,) over documents that were drawn `times` (draws, documents) and over `seeds` (draws, seeds), at once if possible."""
    if isinstance(measured, ManyDraws):
        return measured.resample_many(times, seeds)
    everyone = np.arange(times.shape[1])
    return np.array([measured.resample(np.repeat(everyone, row), own) for row, own in zip(times, seeds, strict=True)])


def _over(measured: Measured, picks: Sequence[Ints], seeds: Sequence[Ints]) -> npt.NDArray[np.float64]:
    if not isinstance(measured, ManyDraws):
        return np.array([measured.resample(picked, own) for picked, own in zip(picks, seeds, strict=True)])
    times = np.stack([np.bincount(picked, minlength=measured.documents) for picked in picks])
    return measured.resample_many(times, np.stack(seeds))


def _share(amounts: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`amounts / sizes`, and 0 where both are 0: documents drawn by chance may hold nothing to find."""
    return np.asarray(amounts / np.where((sizes == 0) & (amounts == 0), 1.0, sizes))


def _draw(generator: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    return np.asarray(generator.integers(count, size=count), dtype=np.int64)
