"""Constituents that were found beside those that are there: precision, recall and F1 a snippet, and recall a label."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from regraft.probe.probes.ast_probe.encoding import Code, Constituent, constituents
from regraft.probe.probes.ast_probe.examples import Examples, Labels
from regraft.probe.probes.ast_probe.probe import SyntaxProbe
from regraft.probe.probes.ast_probe.train import EVALUATE

DRAWS = 1000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Of S snippets: precision, recall and F1 (S,) each, and (found, there) of every label. `compat` as in `score`."""

    precision: Floats
    recall: Floats
    f1: Floats
    labels: dict[str, tuple[int, int]]

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 % of the macro F1, by drawing snippets again."""
        return mean_interval(self.f1, seed)


def mean_interval(values: Floats, seed: int = 0) -> tuple[float, float]:
    """95 % of a mean over snippets: percentiles over `DRAWS` draws of them."""
    draws = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=DRAWS) @ values / len(values)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def score(predicted: Sequence[Code], true: Sequence[Code], *, compat: str | None = None) -> Score:
    """Constituents as multisets; with ``compat="released"`` as the released code counts: is it in the list of the other side."""
    rows, found, there = [], Counter[str](), Counter[str]()
    for guess, gold in zip(predicted, true, strict=True):
        own, other = constituents(guess), constituents(gold)
        rows.append(overlap(own, other, compat=compat))
        shared = Counter(own) & Counter(other)
        for (label, _, _), count in shared.items():
            found[label] += count
        there.update(label for label, _, _ in other)
    precision, recall, f1 = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return Score(precision, recall, f1, {label: (found[label], count) for label, count in there.most_common()})


def overlap(predicted: Sequence[Constituent], true: Sequence[Constituent], *, compat: str | None = None) -> tuple[float, float, float]:
    """Precision, recall, F1 of one snippet; all 1 where nothing is there and nothing was found."""
    if not predicted and not true:
        return 1.0, 1.0, 1.0
    if compat == "released":
        right, met = sum(one in true for one in predicted), sum(one in predicted for one in true)
    else:
        right = met = (Counter(predicted) & Counter(true)).total()
    precision, recall = right / max(1, len(predicted)), met / max(1, len(true))
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def predict(probe: SyntaxProbe, examples: Examples, labels: Labels, device: str = "cpu") -> list[Code]:
    """What the probe makes of each snippet."""
    found = []
    with torch.no_grad():
        for batch in examples.batches(EVALUATE, device=device):
            scores = probe(batch.states, batch.lengths)
            d, c, u = scores.d.tolist(), scores.c.argmax(1).tolist(), scores.u.argmax(1).tolist()
            pair = token = 0
            for length in batch.lengths.tolist():
                found.append(
                    Code(
                        tuple(d[pair : pair + length - 1]),
                        tuple(labels.constituents[k] for k in c[pair : pair + length - 1]),
                        tuple(labels.unary[k] for k in u[token : token + length]),
                    )
                )
                pair, token = pair + length - 1, token + length
    return found
