"""Every map of words beside least squares, on the same two tables and dictionaries, in one table.

Enters: two tables, pairs to learn from, pairs to test on, names of methods. Leaves: one row a method, best first, how surely each is behind
the first over the same test words, the page, and the rows, so that an interrupted comparison goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.align.aligners.least_squares import LeastSquares
from regraft.align.linear import LinearAligner
from regraft.align.report.figures import precision_bars
from regraft.align.words.dictionary import Pair, cover, read_pairs
from regraft.align.words.evaluate import TOPS, Way, shared_space, translate
from regraft.align.words.fit import fit_words, seeded, word_aligner
from regraft.align.words.tables import Table, open_table
from regraft.comparison import Arm, Bench, Kept, Metric, Outcome, ranked, run, save, tables_of
from regraft.errors import ParameterError
from regraft.evaluation.paired import Sample
from regraft.meter import metered
from regraft.method import members, parse_settings
from regraft.output import check_outside
from regraft.report import Report

ROWS = "rows.jsonl"
WAYS: tuple[Way, ...] = ("csls", "nn")


class WordBench(Bench):
    """Maps between two tables, ranked by P@1 with CSLS from source to target over covered test words; least squares is the baseline."""

    metric, reference = Metric("p_at_1_csls", "high"), LeastSquares.name

    def __init__(self, source: Table, target: Table, train: Sequence[Pair], test: Sequence[Pair], k: int = 10) -> None:
        self.source, self.target, self.train_pairs, self.k = source, target, list(train), k
        self.known = cover(test, source.index, target.index)
        self.test = list(test)
        if not len(self.known.pairs):
            raise ParameterError(f"none of {len(test):,} test pairs has vectors on both sides: is the dictionary for these languages?")

    def fingerprint(self, *, trained: bool) -> str:
        """Rows of other tables, dictionaries or neighbourhoods are not reused."""
        given = [self.source.digest, self.target.digest, self.train_pairs, self.test, self.k]
        return hashlib.sha256(json.dumps(given, ensure_ascii=False).encode()).hexdigest()

    def baseline(self) -> Outcome:
        return self.measure(Arm(self.reference, LeastSquares()))

    def measure(self, arm: Arm) -> Outcome:
        """The map fitted, and P@1/5/10 both ways; the sample is the hits at 1 of the metric, word by word."""
        outcome = Outcome({"method": arm.name, self.metric.name: None, "error": None})
        with metered() as cost:
            found, _ = fit_words(arm.method, self.source, self.target, self.train_pairs)
        space = shared_space(found, self.k)
        for back in (False, True):
            for way in WAYS:
                hits = translate(space, self.known.pairs, way, back=back)
                figures = {f"{'back_' if back else ''}p_at_{top}_{way}": float(hits.at(top).mean()) for top in TOPS}
                outcome.row |= figures
                if not back and way == "csls":
                    outcome.sample = Sample.of(hits.at(1))
                    low, high = hits.interval(1)
                    outcome.row |= {"low": low, "high": high}
        outcome.row |= {"seconds": cost.seconds, "peak_mb": cost.peak_mb}
        outcome.digest = hashlib.sha256(np.ascontiguousarray(found.aligner.map_).tobytes()).hexdigest()
        return outcome


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, the baseline first, then the best; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report


def compare(
    source: Path,
    target: Path,
    *,
    dictionary: Path,
    test: Path,
    methods: str = "all",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    out: Path | None = None,
    limit: int,
    latin: tuple[bool, bool] = (True, True),
    k: int = 10,
    seed: int = 0,
) -> Compared:
    """Fit each of `methods` (names with commas between, or all) on `dictionary` and measure it on `test`.

    `settings` are parameters by method name. With `out`, rows, `comparison.json` and `comparison.html` are kept there. Raises
    `ParameterError`: an unknown method, or dictionaries that share source words (a map is not measured on what it learned).
    """
    arms = arms_of(methods, settings or {}, seed)
    train, asked = read_pairs(dictionary), read_pairs(test)
    shared = {a for a, _ in train} & {a for a, _ in asked}
    if shared:
        raise ParameterError(f"{test}: {len(shared):,} source words, such as '{min(shared)}', are in {dictionary} too: test on others")
    if out is not None:
        check_outside(out, [path for path in (source, target) if path.is_dir()])
    bench = WordBench(open_table(source, limit, latin=latin[0]), open_table(target, limit, latin=latin[1]), train, asked, k)
    outcomes = run(bench, arms, 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    report = report_of(bench, rows, outcomes)
    if out is not None:
        save(out, {"rows": rows}, report)
    return Compared(rows, report)


def settings_by_method(pairs: list[str]) -> dict[str, dict[str, Any]]:
    """`["rcsls.lr=10"]` -> `{"rcsls": {"lr": 10}}`. Raises `ParameterError` for a setting without a method."""
    found: dict[str, dict[str, Any]] = {}
    for pair, value in parse_settings(pairs).items():
        method, dot, field = pair.partition(".")
        if not dot:
            raise ParameterError(f"--set {pair}: which method? write METHOD.field=value, such as rcsls.lr=10")
        found.setdefault(method.replace("_", "-"), {})[field] = value
    return found


def arms_of(methods: str, settings: Mapping[str, Mapping[str, Any]], seed: int) -> list[Arm]:
    """One arm a method; the baseline is there anyway."""
    everyone = [cls.name for cls in members("aligner") if issubclass(cls, LinearAligner)]
    names = everyone if methods == "all" else [name.strip().replace("_", "-") for name in methods.split(",") if name.strip()]
    for name in settings:
        if name not in names:
            raise ParameterError(f"--set {name}.…: {name} is not compared: write METHOD.field=value with one of {', '.join(names)}")
    plain = [name for name in names if name != LeastSquares.name or name in settings]
    found = [Arm(name, word_aligner(name, seeded(name, dict(settings.get(name, {})), seed))) for name in plain]
    return [Arm(f"{arm.name}*" if arm.name == LeastSquares.name else arm.name, arm.method) for arm in found]


def report_of(bench: WordBench, rows: list[dict[str, Any]], outcomes: Mapping[str, Outcome]) -> Report:
    """Table and picture."""
    measured = [row for row in rows if row[bench.metric.name] is not None]
    first = max(measured, key=lambda row: row[bench.metric.name])
    lead = f"{first['method']} finds most: {first['p_at_1_csls']:.1%} of {bench.known.known_words:,} covered source words by CSLS."
    report = Report("Maps of words", lead)
    covered = f"Test dictionary: {bench.known}. P@k by covered source words; behind_first with half its 95 % interval."
    hidden = [f"{back}p_at_5_{way}" for back in ("", "back_") for way in WAYS] + ["low", "high", "back_p_at_10_csls", "back_p_at_10_nn"]
    for table in tables_of(rows, outcomes, bench.metric, covered, hidden):
        report.add_table(**table)
    shown = [
        {
            "direction": row["method"],
            "retrieval": way,
            "p_at_1": row[f"p_at_1_{way}"],
            "p_at_1_low": row["low"] if way == "csls" else None,
            "p_at_1_high": row["high"] if way == "csls" else None,
        }
        for row in measured
        for way in WAYS
    ]
    report.add_figure("Precision at 1", precision_bars(shown), "Source to target; the thin bars, of CSLS: 95 % over source words.")
    return report
