"""Hard negatives that know the positive: what a teacher finds near a query, and not nearly as near as what answers it.

Enters: a corpus, queries, which documents answer them, a teacher. Leaves: training pairs with negatives as JSON lines, and an estimate of
how many of the negatives are answers that nobody marked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.errors import CorpusError, ParameterError
from regraft.evaluation.paired import Sample, paired_effect
from regraft.output import atomic_file
from regraft.progress import progress_bar, step
from regraft.text.encoder import written
from regraft.text.loading import content_hash
from regraft.text.tasks.files import read_rows
from regraft.text.tasks.task import Encode, checked, encoder, unit

CELLS = 1 << 25  # scores held at once

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """`corpus`, `queries` : id -> text. `positives` : query id -> ids of the documents that answer it; queries without one are left out."""

    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    positives: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        if not self.asked:
            raise CorpusError(
                f"none of {len(self.queries):,} queries has a positive among {len(self.corpus):,} documents: "
                "give --positives qrels.tsv, or a field positive (ids of documents) with each query"
            )

    @property
    def asked(self) -> list[str]:
        return [query for query in self.queries if self.positives.get(query)]


@dataclass(frozen=True)
class Mined:
    """`negatives` : query id -> (document id, score), the nearest first. `positive_scores` : query id -> {document id: score}.

    `hidden` : positives by what is mined if all but one of a query's positives are hidden, summed over which one is kept; None where no
    query has two.
    """

    negatives: Mapping[str, list[tuple[str, float]]]
    positive_scores: Mapping[str, Mapping[str, float]]
    hidden: Sample | None


def thresholds(lowest: Floats, margin: float | None) -> Floats:
    """The score that a negative must stay below, of the lowest score of a positive: `margin` of it (section 4.1.1, "TopKPercPos").

    Of a positive below 0 a share is no less; there the distance 1 - margin is taken (inferred). No margin, no threshold.
    """
    if margin is None:
        return np.full_like(lowest, np.inf)
    return np.where(lowest > 0, lowest * margin, lowest - abs(1 - margin))


def nearest(scores: Floats, known: npt.NDArray[np.bool_], margin: float | None, most: int) -> Places:
    """Places (rows, most) of the highest of `scores` (rows, documents) below the threshold, -1 where there are no more.

    `known` : (rows, documents), the positives; several set the threshold by the lowest of them (inferred). Of equal scores the earlier
    document comes first.
    """
    limit = thresholds(np.where(known, scores, np.inf).min(1), margin)
    open_to = np.where(known | (scores >= limit[:, None]), -np.inf, scores)
    first = _first(open_to, min(most, scores.shape[1]))
    found = np.where(np.isneginf(np.take_along_axis(open_to, first, 1)), -1, first)
    return np.pad(found, ((0, 0), (0, most - found.shape[1])), constant_values=-1)


def _first(scores: Floats, most: int) -> Places:
    """Places of the highest `most` in each row, in falling order; equal scores by place."""
    if most < scores.shape[1]:
        least = -np.partition(-scores, most - 1, axis=1)[:, most - 1 : most]
        width = int((scores >= least).sum(1).max())
    else:
        width = scores.shape[1]
    if width > 4 * most + 16:  # many ties: sort it all
        return np.argsort(-scores, axis=1, kind="stable")[:, :most]
    places = np.sort(np.argpartition(-scores, width - 1, axis=1)[:, :width], axis=1)
    inside = np.argsort(-np.take_along_axis(scores, places, 1), axis=1, kind="stable")[:, :most]
    return np.take_along_axis(places, inside, 1)


def mine(judged: Judged, encode: Encode, *, margin: float | None = 0.95, negatives: int = 7) -> Mined:
    """`negatives` documents a query by the cosine of `encode`, and the estimate. Texts equal to a positive are no negatives."""
    names, asked = list(judged.corpus), judged.asked
    with step(f"teacher: {len(names):,} documents, {len(asked):,} queries"):
        documents = unit(checked(encode(list(judged.corpus.values()), "document"), "corpus")).astype(np.float32)
        queries = unit(checked(encode([judged.queries[one] for one in asked], "query"), "queries")).astype(np.float32)
    at = {name: place for place, name in enumerate(names)}
    twins = _twins(judged.corpus)
    found: dict[str, list[tuple[str, float]]] = {}
    own: dict[str, dict[str, float]] = {}
    shares: list[tuple[int, int]] = []
    with progress_bar("mining", total=len(asked), unit="queries") as bar:
        for start, stop in _blocks(len(asked), len(names)):
            scores = (queries[start:stop] @ documents.T).astype(np.float64)
            places = [[at[one] for one in judged.positives[query]] for query in asked[start:stop]]
            known = np.zeros(scores.shape, dtype=bool)
            for row, positives in enumerate(places):
                known[row, [twin for one in positives for twin in twins[names[one]]]] = True
            for row, chosen in enumerate(nearest(scores, known, margin, negatives)):
                query = asked[start + row]
                found[query] = [(names[one], float(scores[row, one])) for one in chosen if one >= 0]
                own[query] = {names[one]: float(scores[row, one]) for one in places[row]}
            shares += _hidden(scores, known, places, [[twins[names[one]] for one in row] for row in places], margin, negatives)
            bar.advance(stop - start)
    wrong, all_of = (np.array(column, dtype=np.float64) for column in zip(*shares, strict=True)) if shares else (np.zeros(0), np.zeros(0))
    return Mined(found, own, Sample.of(wrong, all_of) if all_of.sum() else None)


def _hidden(
    scores: Floats, known: npt.NDArray[np.bool_], places: list[list[int]], same: list[list[list[int]]], margin: float | None, most: int
) -> list[tuple[int, int]]:
    """(positives among the mined, mined) of each query with two positives and more, summed over which one is kept."""
    pairs = [(row, kept) for row, positives in enumerate(places) if len(positives) > 1 for kept in range(len(positives))]
    if not pairs:
        return []
    counts: dict[int, tuple[int, int]] = {}
    size = max(1, CELLS // scores.shape[1])
    for start in range(0, len(pairs), size):
        block = pairs[start : start + size]
        rows = np.array([row for row, _ in block])
        alone = np.zeros((len(block), scores.shape[1]), dtype=bool)
        for place, (row, kept) in enumerate(block):
            alone[place, same[row][kept]] = True
        chosen = nearest(scores[rows], alone, margin, most)
        wrong = np.take_along_axis(known[rows], chosen.clip(0), 1) & (chosen >= 0)
        for row, bad, mined in zip(rows.tolist(), wrong.sum(1).tolist(), (chosen >= 0).sum(1).tolist(), strict=True):
            before = counts.get(row, (0, 0))
            counts[row] = (before[0] + bad, before[1] + mined)
    return list(counts.values())


def _blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    size = max(1, CELLS // max(1, columns))
    return ((start, min(rows, start + size)) for start in range(0, rows, size))


def _twins(corpus: Mapping[str, str]) -> dict[str, list[int]]:
    """Places of all documents with the same text, its own among them."""
    by_text: dict[str, list[int]] = {}
    for place, text in enumerate(corpus.values()):
        by_text.setdefault(" ".join(text.split()), []).append(place)
    return {name: by_text[" ".join(text.split())] for name, text in corpus.items()}


def mine_files(
    corpus: Path,
    queries: Path,
    *,
    teacher: str,
    out: Path,
    positives: Path | None = None,
    encode_by: str = "as-is",
    margin: float = 0.95,
    negatives: int = 7,
    batch_size: int = 32,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write rows anchor, positive, negative_1, ... to `out`, one a query and positive; what was done stands in `out` with .report.json.

    Queries with fewer negatives than asked are left out and counted. Raises `CorpusError`: a record without text, no positive.
    """
    if negatives < 1 or not 0 < margin <= 2:
        raise ParameterError(f"--negatives {negatives}, --margin {margin}: at least 1 negative, a margin above 0 and up to 2")
    judged = read_judged(corpus, queries, positives)
    with step(f"loading {Path(teacher).name}"):
        model = written(encode_by).build(teacher, device=device)
    mined = mine(judged, encoder(model, batch_size), margin=margin, negatives=negatives)
    whole = {query: found for query, found in mined.negatives.items() if len(found) == negatives}
    if not whole:
        raise CorpusError(f"no query has {negatives} documents below {margin:g} of its positive: ask for fewer, or give a larger corpus")
    rows = [
        {"anchor": judged.queries[query], "positive": judged.corpus[positive]}
        | {f"negative_{number}": judged.corpus[name] for number, (name, _) in enumerate(found, 1)}
        for query, found in whole.items()
        for positive in judged.positives[query]
    ]
    figures = {
        "out": str(out),
        "rows": len(rows),
        "queries": len(whole),
        "left_out": len(judged.asked) - len(whole),
        "without_positive": len(judged.queries) - len(judged.asked),
        "margin": margin,
        "negatives": negatives,
        "teacher": content_hash(teacher),
        "false_negatives": estimate(mined.hidden),
    }
    with atomic_file(out) as partial:
        partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    with atomic_file(out.with_suffix(".report.json")) as partial:
        partial.write_text(json.dumps(figures, indent=1, ensure_ascii=False), "utf-8")
    return figures


def estimate(hidden: Sample | None) -> dict[str, Any] | None:
    """Share of mined documents that answer their query if only one of its answers is known, with a 95 % interval over queries."""
    if hidden is None:
        return None
    none = Sample(np.zeros_like(hidden.amounts), hidden.sizes)
    effect = paired_effect(none, hidden)
    return {"share": effect.effect, "low": effect.low, "high": effect.high, "queries": hidden.documents}


def read_judged(corpus: Path, queries: Path, positives: Path | None = None) -> Judged:
    """Files of BEIR's form: objects with _id, text (and title) in both; `positives` a table of query-id, corpus-id, score.

    Without it the field `positive` of a query, an id or a list of ids. Raises `CorpusError`.
    """
    documents, asked = dict(_texts(corpus)), dict(_texts(queries))
    found: dict[str, list[str]] = {}
    for query, document in _judgements(positives) if positives is not None else _fields(queries):
        if query in asked and document in documents:
            found.setdefault(query, []).append(document)
    return Judged(documents, asked, {query: list(dict.fromkeys(names)) for query, names in found.items()})


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(_rows(path), 1):
        text = " ".join(str(row.get(name) or "") for name in ("title", "text")).strip()
        name = row.get("_id", row.get("id"))
        if name is None or not text:
            raise CorpusError(f"{path}, record {number}: needs _id and text")
        yield str(name), text


def _judgements(path: Path) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(_rows(path), 2):
        query, document, score = (row.get(name) for name in ("query-id", "corpus-id", "score"))
        try:
            grade = float(str(score))
        except ValueError:
            grade = np.nan
        if query is None or document is None or not np.isfinite(grade):
            raise CorpusError(f"{path}, line {number}: needs columns query-id, corpus-id and score, a number")
        if grade > 0:
            yield str(query), str(document)


def _fields(path: Path) -> Iterator[tuple[str, str]]:
    for row in _rows(path):
        given = row.get("positive") or []
        for one in given if isinstance(given, list) else [given]:
            yield str(row.get("_id", row.get("id"))), str(one)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise ParameterError(f"{path}: no such file")
    return read_rows(path)
