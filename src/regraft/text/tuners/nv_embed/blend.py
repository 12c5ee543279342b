"""Examples of every kind as one kind of row: a query, its positive, its own negatives.

Pairs are retrieval; labelled texts and scored pairs become pairs as section 4 of the paper says.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from datasets import Dataset
from regraft.errors import CorpusError
from regraft.text.modules.decoder import instructed
from regraft.text.tuners.nv_embed.near import Bm25, plain, repeated

TRIES = 50  # draws of a random text of another class, or of the same


@dataclass(frozen=True)
class Row:
    """`task` : the instruction of the query. `symmetric` : the documents get it too. `retrieval` : belongs to the first stage."""

    query: str
    positive: str
    negatives: tuple[str, ...]
    task: str = ""
    symmetric: bool = False
    retrieval: bool = False


def from_pairs(examples: Dataset, task: str, most: int) -> list[Row]:
    """Retrieval pairs with the negatives that they bring, at most `most`."""
    names = [name for name in examples.column_names if name.startswith("negative")]
    rows = []
    for one in examples:
        negatives = dict.fromkeys(one[name] for name in names if one[name] != one["positive"])
        rows.append(Row(one["anchor"], one["positive"], tuple(negatives)[:most], task, retrieval=True))
    return rows


def from_labels(examples: Dataset, task: str, most: int, *, how: Literal["examples", "names"], seed: int) -> list[Row]:
    """Labelled texts: the positive is another text of the class and negatives are texts of others, or all are the classes' names.

    A text with several labels is a negative of none of them. Raises `CorpusError` for texts of one class, or classes of one text.
    """
    labels: dict[str, set[str]] = {}
    members: dict[str, list[str]] = {}
    for one in examples:
        text, label = one["text"], str(one["label"])
        if label not in labels.setdefault(text, set()):
            labels[text].add(label)
            members.setdefault(label, []).append(text)
    if len(members) < 2:
        raise CorpusError(f"all {len(labels):,} texts have the label {next(iter(members), None)!r}: nothing tells classes apart in them")
    draw, everyone = random.Random(seed), list(labels)
    rows = []
    for text, own in labels.items():
        for label in sorted(own):
            if how == "names":
                others = [name for name in members if name not in own]
                rows.append(Row(text, label, tuple(draw.sample(others, min(most, len(others)))), task))
                continue
            same = [one for one in (draw.choice(members[label]) for _ in range(TRIES)) if one != text][:1]
            drawn = [draw.choice(everyone) for _ in range(TRIES + most)]
            others = [one for one in dict.fromkeys(drawn) if not labels[one] & own][:most]
            if same and others:
                rows.append(Row(text, same[0], tuple(others), task, symmetric=True))
    if not rows:
        raise CorpusError("no class has two different texts: take labels=names, or give more texts a class")
    return rows


def from_scores(examples: Dataset, task: str, most: int, *, positive: float, negative: float) -> list[Row]:
    """Scored pairs from `positive` of the highest score on, in both directions; negatives are the nearest other texts by BM25.

    What is known to score at least `negative` of the highest beside the query is no negative. Raises `CorpusError`: no pair is a positive.
    """
    scale = max(examples["score"])
    alike: dict[str, set[str]] = {}
    pairs: list[tuple[str, str]] = []
    for one in examples:
        a, b, score = one["sentence1"], one["sentence2"], one["score"]
        if score >= negative * scale:
            alike.setdefault(a, set()).add(b)
            alike.setdefault(b, set()).add(a)
        if score >= positive * scale and plain(a) != plain(b):
            pairs += [(a, b), (b, a)]
    if not pairs or scale <= 0:
        raise CorpusError(f"no pair of two texts has a score of {positive:g} of the highest ({scale:g}) or more: none is a positive")
    pool = list(dict.fromkeys(text for name in ("sentence1", "sentence2") for text in examples[name]))
    blocks = Bm25(pool).scores([query for query, _ in pairs])
    rows = []
    for (query, found), scores in zip(pairs, itertools.chain.from_iterable(blocks), strict=True):
        known = {plain(one) for one in (query, found, *alike[query])}
        nearest = (pool[at] for at in np.argsort(-scores, kind="stable"))
        rows.append(Row(query, found, tuple(itertools.islice((one for one in nearest if plain(one) not in known), most)), task, True))
    return rows


def without(rows: Sequence[Row], held_out: Sequence[str], share: float) -> list[Row]:
    """Rows whose query and positive are in no evaluation text; negatives that are, are left out. See `near.repeated`."""
    texts = list(dict.fromkeys(text for row in rows for text in (row.query, row.positive, *row.negatives)))
    seen = {text for text, is_in in zip(texts, repeated(texts, held_out, share), strict=True) if is_in}
    kept = [row for row in rows if row.query not in seen and row.positive not in seen]
    return [replace(row, negatives=tuple(one for one in row.negatives if one not in seen)) for row in kept]


def dataset(rows: Sequence[Row], in_batch: Sequence[bool]) -> Dataset:
    """Rows as `PolicyContrastive` takes them. Raises `CorpusError` for a row without any negative.

    Where a row has fewer negatives than others, the place holds a text of its own that the loss does not look at.
    """
    bare = next((row for row, batch in zip(rows, in_batch, strict=True) if not row.negatives and not batch), None)
    if bare is not None:
        raise CorpusError(f"no negative of its own for {bare.query[:60]!r}: give columns negative_1, ... (regraft text mine makes them)")
    most = max(len(row.negatives) for row in rows)
    ids: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    for row, batch in zip(rows, in_batch, strict=True):
        documents = [row.positive, *row.negatives]
        numbers = [ids.setdefault(text, len(ids)) for text in (row.query, *documents)]
        numbers += [-1] * (most + 1 - len(documents))
        documents += documents[-1:] * (most + 1 - len(documents))
        shown = [instructed(row.task, row.query), *(instructed(row.task if row.symmetric else "", one) for one in documents)]
        names = ["anchor", "positive", *(f"negative_{number}" for number in range(1, most + 1))]
        found.append({**dict(zip(names, shown, strict=True)), "label": [int(batch), *numbers]})
    return Dataset.from_list(found)


def texts_of(data: Dataset) -> list[str]:
    """Every text of `dataset`."""
    return [text for name in data.column_names if name != "label" for text in data[name]]
