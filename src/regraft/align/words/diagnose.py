r"""Whether two tables look alike enough to be aligned without a dictionary, before it is tried.

An unsupervised map uses that both tables have the same shape. Measured: how far apart the logarithms of their singular values are,
:math:`\sum_i (\log \sigma_i - \log \sigma_i')^2` over the most frequent words after unit, centre, unit (Dubossarsky et al. 2020), beside
the same gap between two halves of each table, which is what chance makes of one shape; how many words are written alike and at which
ranks; and how often the start that self-learning would take, from sorted similarities alone, gets words that are written alike right.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.align.aligner import Floats
from regraft.align.aligners.vecmap.learning import spectral_start
from regraft.align.linear import mean_of, stepped
from regraft.align.report.figures import spectra
from regraft.align.words.dictionary import identical_pairs, numeral_pairs
from regraft.align.words.tables import Table, open_table
from regraft.report import Report

WORDS = 4_000  # of either side, as many as an unsupervised start looks at
HOLDS, CHANCE = 0.01, 10  # a start with less than this share right, or than ten times what chance gets, has not been seen to hold
TOLD = 20  # words written alike from which on a share of them says something


def singular_values(rows: Floats) -> npt.NDArray[np.float64]:
    """Of rows (n, d) after unit, centre, unit, over the square root of n; largest first."""
    steps = stepped(rows.astype(np.float64), "unit-center-unit", mean_of(rows, "unit-center-unit"))
    found: npt.NDArray[np.float64] = np.linalg.svd(steps, compute_uv=False) / np.sqrt(len(steps))
    return found


def spectral_gap(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Sum of squared differences of the logarithms, over the directions that both have."""
    count = min(len(one), len(other))
    a, b = (np.log(np.maximum(values[:count], 1e-8)) for values in (one, other))
    return float(((a - b) ** 2).sum())


def diagnose(
    source: Path, target: Path, *, limit: int, latin: tuple[bool, bool] = (True, True), words: int = WORDS, k: int = 10
) -> tuple[Report, dict[str, Any]]:
    """What two tables say of an unsupervised map. Returns a report and the same as figures."""
    left, right = open_table(source, limit, latin=latin[0]), open_table(target, limit, latin=latin[1])
    figures = compare_shapes(left, right, words, k)
    report = Report("Would a map without a dictionary hold?", figures["reading"])
    shown = [{"measure": name, "value": figures[key], "how to read it": read} for name, key, read in READ]
    report.add_table("Measures", shown)
    lines = {"source": figures.pop("source_spectrum"), "target": figures.pop("target_spectrum")}
    report.add_figure("Spectra", spectra(lines), "Tables that can be turned into each other have the same curve.")
    return report, figures


READ = (
    ("spectral gap", "spectral_gap", "0 for tables that are turns of each other"),
    ("of halves of the source", "source_halves", "what chance makes of one shape"),
    ("of halves of the target", "target_halves", "what chance makes of one shape"),
    ("words written alike", "identical", "of the source's words; seeds of their own (--seeds identical)"),
    ("rank correlation of these", "rank_correlation", "1: as frequent on both sides"),
    ("numerals written alike", "numerals", "seeds of their own (--seeds numerals)"),
    ("start without a dictionary", "start_precision", "share of words written alike that it pairs; a random one has nearly 0"),
)


def compare_shapes(left: Table, right: Table, words: int, k: int) -> dict[str, Any]:
    """The figures of `diagnose`."""
    tables = [table.matrix[:words][table.matrix[:words].any(1)] for table in (left, right)]
    own = [singular_values(rows) for rows in tables]
    halves = [spectral_gap(singular_values(rows[::2]), singular_values(rows[1::2])) for rows in tables]
    alike = [(left.index[a], right.index[b]) for a, b in identical_pairs(left.words, right.words)]
    figures = {
        "words_looked_at": [len(rows) for rows in tables],
        "spectral_gap": spectral_gap(*own),
        "source_halves": halves[0],
        "target_halves": halves[1],
        "identical": len(alike),
        "rank_correlation": _rank_correlation(alike),
        "numerals": len(numeral_pairs(left.words, right.words)),
        "start_precision": _start_precision(left, right, alike, words, k),
        "source_spectrum": own[0].tolist(),
        "target_spectrum": own[1].tolist(),
    }
    return figures | {"reading": _reading(figures)}


def _rank_correlation(alike: list[tuple[int, int]]) -> float | None:
    if len(alike) < TOLD:
        return None
    ranks = [np.argsort(np.argsort([pair[side] for pair in alike])) for side in (0, 1)]
    first, second = (one - one.mean() for one in np.stack(ranks).astype(np.float64))
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _start_precision(left: Table, right: Table, alike: list[tuple[int, int]], words: int, k: int) -> float | None:
    count = min(words, len(left.words), len(right.words))
    frequent = {pair for pair in alike if max(pair) < count}
    if len(frequent) < TOLD:
        return None
    left_rows, right_rows = (
        stepped(table.matrix[:count].astype(np.float64), "unit-center-unit", mean_of(table.matrix, "unit-center-unit"))
        for table in (left, right)
    )
    found = spectral_start(left_rows, right_rows, k)[:count]
    return len(frequent & {(int(a), int(b)) for a, b in found}) / len(frequent)


def _reading(figures: dict[str, Any]) -> str:
    chance = max(figures["source_halves"], figures["target_halves"], 1e-9)
    times = figures["spectral_gap"] / chance
    said = f"The spectra are {times:.1f} times as far apart as halves of one table are."
    start, enough = figures["start_precision"], max(HOLDS, CHANCE / min(figures["words_looked_at"]))
    if start is not None:
        said += f" The start without a dictionary pairs {start:.1%} of the words that are written alike."
    if start is None or start < enough:
        said += " A map without any pair is likely to collapse: give --dictionary, or --seeds"
        said += f" identical ({figures['identical']:,} words)." if figures["identical"] else "."
    else:
        said += " A map without any pair may hold; check it on a few words with `regraft align search`."
    return said
