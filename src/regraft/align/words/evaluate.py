"""How well a map finds translations: the benchmark's protocol, in both directions, with cosines and with CSLS.

Every distinct source word of a test dictionary that has a vector, and a translation that has one, asks all words of the other table; it is
a hit at k if any of its translations is among the first k. P@k is hits by such covered words; what part of the dictionary they are stands
beside it, and P@k over all its words too, for without that figures of different tables do not compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regraft.align.nearest import Neighbours, Retrieval
from regraft.align.report.figures import precision_bars
from regraft.align.words.dictionary import Coverage, Pair, cover, read_pairs
from regraft.align.words.fit import WordMap, load_words
from regraft.errors import ParameterError
from regraft.report import Report

TOPS = (1, 5, 10)
DRAWS = 2000
DIRECTIONS = ("source to target", "target to source")
Way = Literal["nn", "csls"]


@dataclass(frozen=True, eq=False)
class Hits:
    """At which rank each covered word's first translation came: `ranks` (words,), from 0; past the last that was looked at, that many."""

    words: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int64]

    def at(self, k: int) -> npt.NDArray[np.float64]:
        """1 for each word with a translation among the first `k`."""
        return (self.ranks < k).astype(np.float64)

    def interval(self, k: int, seed: int = 0) -> tuple[float, float]:
        """95 % of P@k over words drawn again."""
        draws = np.random.default_rng(seed).binomial(len(self.ranks), self.at(k).mean(), size=DRAWS) / len(self.ranks)
        low, high = np.quantile(draws, [0.025, 0.975]).tolist()
        return float(low), float(high)


def shared_space(found: WordMap, k: int = 10) -> Retrieval:
    """Both tables of a map where they are compared."""
    return Retrieval(*found.aligner.in_one_space(found.source.matrix, found.target.matrix), k)


def translate(space: Retrieval, pairs: npt.NDArray[np.int64], way: Way, *, back: bool = False, top: int = max(TOPS)) -> Hits:
    """Ranks of translations: `pairs` (k, 2) are gold rows of left and right; `back` asks with the right."""
    asked, gold = (pairs[:, 1], pairs[:, 0]) if back else (pairs[:, 0], pairs[:, 1])
    words = np.unique(asked)
    found: Neighbours = (space.search_back if back else space.search)(words, top, way)
    other = len(space.left) if back else len(space.right)
    right_ones = np.unique(asked * other + gold)
    hit = np.isin(words[:, None] * other + found.ids, right_ones) & (found.ids >= 0)
    return Hits(words, np.where(hit.any(1), hit.argmax(1), top))


def measure(found: WordMap, pairs: Sequence[Pair], k: int = 10, back_pairs: Sequence[Pair] | None = None) -> list[dict[str, Any]]:
    """One row a direction and way of retrieval: P@1/5/10 over covered words, the interval of P@1, P@1 over all words, coverage.

    `back_pairs` are (target word, source word) for the way back; without them, `pairs` turned round. Raises `ParameterError` where no pair
    is covered.
    """
    space, rows = shared_space(found, k), []
    there = cover(pairs, found.source.index, found.target.index)
    turned = [(b, a) for a, b in pairs] if back_pairs is None else list(back_pairs)
    home = cover(turned, found.target.index, found.source.index)
    for direction, known in zip(DIRECTIONS, (there, home), strict=True):
        if not len(known.pairs):
            raise ParameterError(
                f"none of {known.all_pairs:,} test pairs has vectors on both sides: is the dictionary for these languages?"
            )
        back = direction == DIRECTIONS[1]
        rows += [{"direction": direction} | row(translate(space, known.pairs[:, ::-1] if back else known.pairs, way, back=back), way, known)
                 for way in ("csls", "nn")]  # fmt: skip
    return rows


def row(hits: Hits, way: str, known: Coverage) -> dict[str, Any]:
    """Figures of one direction and one way."""
    low, high = hits.interval(1)
    return {
        "retrieval": way,
        **{f"p_at_{k}": float(hits.at(k).mean()) for k in TOPS},
        "p_at_1_low": low,
        "p_at_1_high": high,
        "p_at_1_of_all": float(hits.at(1).sum() / known.all_words),
        "words": known.known_words,
        "all_words": known.all_words,
        "pairs": known.known_pairs,
        "all_pairs": known.all_pairs,
    }


def evaluate(folder: Path, dictionary: Path, *, k: int = 10, back_dictionary: Path | None = None) -> tuple[Report, dict[str, Any]]:
    """Measure the map in `folder` on a test dictionary. Returns a report and the same as figures."""
    pairs = read_pairs(dictionary)
    back = None if back_dictionary is None else read_pairs(back_dictionary)
    found = load_words(folder)
    rows = measure(found, pairs, k, back)
    return report_of(found.aligner.name, rows), {"map": str(folder), "method": found.aligner.name, "csls_k": k, "rows": rows}


def report_of(method: str, rows: Sequence[dict[str, Any]]) -> Report:
    """Table and picture of an evaluation."""
    first = rows[0]
    lead = (
        f"{method}: of {first['words']:,} covered source words {first['p_at_1']:.1%} have a translation first by CSLS "
        f"({first['p_at_1_low']:.1%} to {first['p_at_1_high']:.1%}); {first['words']:,} of the dictionary's {first['all_words']:,} source "
        "words are covered."
    )
    report = Report("Translations found", lead)
    shown = [{"direction": one["direction"], "retrieval": one["retrieval"], "p@1": one["p_at_1"], "p@5": one["p_at_5"],
              "p@10": one["p_at_10"], "95 %": f"{one['p_at_1_low']:.3f} to {one['p_at_1_high']:.3f}", "p@1 of all": one["p_at_1_of_all"],
              "words": f"{one['words']:,} of {one['all_words']:,}", "pairs": f"{one['pairs']:,} of {one['all_pairs']:,}"}
             for one in rows]  # fmt: skip
    caption = "P@k by covered source words; any gold translation counts; all words of the other table are candidates."
    report.add_table("Precision", shown, caption)
    report.add_figure("Precision at 1", precision_bars(rows), "Bars: 95 % over source words.")
    return report
