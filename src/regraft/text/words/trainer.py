"""One trainer for all word models: the same lines, order, noise, rate and threads; validation loss after each pass.

Enters: a model and `Words`. Leaves: vectors, and what each pass cost and reached. A caller sees them after every pass and may end it.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from regraft.errors import EvaluationError
from regraft.progress import Bar, progress_bar
from regraft.text.words.corpus import Words
from regraft.text.words.model import Floats, Part, Prepared, Weights, WordModel

CHUNK = 8_192  # units that a thread goes over before it tells how far it is
LARGEST = 100.0  # vectors that learned hold numbers below 10
After = Callable[["Epoch", Floats], bool]


@dataclass(frozen=True)
class Epoch:
    """One pass: its number from 1, the mean loss on the part that is not learned from (None without one), seconds of learning."""

    number: int
    validation: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """`vectors` (V, d) of `words`, as they were after the last pass, and `pieces` (P, d) where the model has any.
    `words_per_second` : of the text, rare words included, the compilation of the loops not. `untrained` : validation loss before training.
    """

    words: Words
    vectors: Floats
    epochs: list[Epoch] = field(default_factory=list)
    words_per_second: float = 0.0
    pieces: Floats | None = None
    untrained: float | None = None

    @property
    def diverged(self) -> str | None:
        """Said where the loss on what is held out was ever above that before training, or numbers of the vectors are beyond all use."""
        highest = max(self.epochs, key=lambda one: one.validation or 0.0)
        largest = float(np.abs(self.vectors).max())
        if self.untrained is not None and (highest.validation or 0.0) > self.untrained:
            found = (
                f"the validation loss was {highest.validation:.3g} after pass {highest.number}, above {self.untrained:.3g} before training"
            )
        elif largest > LARGEST:
            found = f"numbers of the vectors reach {largest:,.0f}"
        else:
            return None
        return f"training diverged: {found}: lower the rate (--set rate=...)"


def fit(model: WordModel, words: Words, *, seed: int = 0, workers: int = 1, after: After | None = None) -> Fitted:
    """Train `model` on `words`.

    Parameters
    ----------
    workers : threads. Each has a part of the text for itself and all write to the same tables without locks, so more than one gives other
        numbers in every run. after : sees each pass and its vectors; True ends the training.

    Raises `EvaluationError` where vectors become NaN or infinite.
    """
    prepared, weights = model.prepare(words), model.start(words, seed)
    sides = [_sides(part, model.validation) for part in _shared(prepared.units, workers)]
    states = [_state(seed, worker) for worker in range(workers)]
    epochs: list[Epoch] = []
    held = [held for _, held in sides]
    _compile(model, prepared, weights)
    untrained = _validation(model, prepared, weights, held)
    total = model.epochs * sum(len(learned) for learned, _ in sides)
    with progress_bar(f"training {model.name}", total=total, unit="lines") as bar, ThreadPoolExecutor(workers) as pool:
        for number in range(1, model.epochs + 1):
            start = time.perf_counter()
            rates = _rates(model, number)
            jobs = [_pass(model, prepared, weights, learned, rates, state) for (learned, _), state in zip(sides, states, strict=True)]
            for done in as_completed([pool.submit(_one_after_the_other, job, bar) for job in jobs]):
                done.result()
            seconds = time.perf_counter() - start
            epochs.append(Epoch(number, _validation(model, prepared, weights, [held for _, held in sides]), seconds))
            vectors = model.vectors(weights)[: len(words.names)]
            if not np.isfinite(vectors).all():
                raise EvaluationError(f"{model.name}: vectors are not finite after pass {number}: lower the rate")
            if after is not None and after(epochs[-1], vectors):
                break
    speed = words.total * len(epochs) / max(sum(one.seconds for one in epochs), 1e-9)
    rows, size = model.vectors(weights), len(words.names)
    return Fitted(words, rows[:size], epochs, speed, rows[size:] if len(rows) > size else None, untrained)


def _compile(model: WordModel, words: Prepared, weights: Weights) -> None:
    """A pass over nothing, so that the passes that are timed find their loop compiled."""
    model.go(words, weights, Part(words.units[:0], np.zeros(2, np.float32), _state(-1, 0), learning=True))


def _pass(model: WordModel, words: Prepared, weights: Weights, units: Any, rates: tuple[float, float], state: Any) -> list[Any]:
    """Jobs of one thread, a chunk each, in their order."""

    def job(first: int) -> Callable[[], int]:
        last = min(first + CHUNK, len(units))
        at = [rates[0] + (rates[1] - rates[0]) * place / len(units) for place in (first, last)]

        def run() -> int:
            model.go(words, weights, Part(units[first:last], np.array(at, np.float32), state, learning=True))
            return last - first

        return run

    return [job(first) for first in range(0, len(units), CHUNK)]


def _one_after_the_other(jobs: list[Callable[[], int]], bar: Bar) -> None:
    for job in jobs:
        bar.advance(job())


def _rates(model: WordModel, number: int) -> tuple[float, float]:
    """Learning rates at the start and the end of pass `number`."""
    if model.optimizer == "adagrad":
        return model.rate, model.rate
    lowest = model.rate / 1e4
    first, last = (model.rate * (1 - (number - back) / model.epochs) for back in (1, 0))
    return max(first, lowest), max(last, lowest)


def _validation(model: WordModel, words: Prepared, weights: Weights, held: list[Any]) -> float | None:
    """Mean loss over what is held out, with the same noise after every pass."""
    found = [
        model.go(words, weights, Part(units, np.zeros(2, np.float32), _state(-1, worker), learning=False))
        for worker, units in enumerate(held)
        if len(units)
    ]
    terms = sum(count for _, count in found)
    return sum(loss for loss, _ in found) / terms if terms else None


def _shared(units: Any, workers: int) -> list[Any]:
    edges = np.linspace(0, len(units), workers + 1).astype(int)
    return [units[a:b] for a, b in pairwise(edges)]


def _sides(units: Any, share: float) -> tuple[Any, Any]:
    border = len(units) - int(share * len(units))
    return units[:border], units[border:]


def _state(seed: int, worker: int) -> Any:
    """A random state that is not zero."""
    return np.random.SeedSequence([seed + 1, worker]).generate_state(1, np.uint64) | np.uint64(1)
