"""Rows that SESA learns from: an anchor, what belongs to it, what does not, and where each text stands in the knowledge base."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datasets import Dataset
from regraft.errors import CorpusError, ParameterError
from regraft.text.explicit.knowledge import KnowledgeBase
from regraft.text.tuners.sesa.loss import NOWHERE

ROUNDS = 20  # of drawing again where a positive was drawn as a negative
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """`others[0]` belongs to `anchor` as `score` says (0 to 1), the rest do not."""

    anchor: str
    others: tuple[str, ...]
    score: float = 1.0


def read_groups(examples: Dataset, base: KnowledgeBase, *, negatives: int, hard: float, seed: int) -> list[Group]:
    """Groups out of pairs, with their own negatives or drawn ones, or out of scored pairs. Scores are divided by the highest.

    Raises `CorpusError` for scores below 0 or all 0, or with nothing to draw negatives from.
    """
    names = examples.column_names
    if "score" in names:
        scores = np.asarray(examples["score"], dtype=np.float64)
        if scores.min() < 0 or scores.max() <= 0:
            raise CorpusError(f"scores from {scores.min():g} to {scores.max():g}: they begin at 0 and not all are 0")
        rows = zip(examples["sentence1"], examples["sentence2"], (scores / scores.max()).tolist(), strict=True)
        return [Group(a, (b,), score) for a, b, score in rows]
    own = [name for name in names if name.startswith("negative")]
    pairs = list(zip(examples["anchor"], examples["positive"], strict=True))
    if own:
        return [Group(a, (b, *rest)) for (a, b), rest in zip(pairs, zip(*(examples[name] for name in own), strict=True), strict=True)]
    return [Group(a, (b, *rest)) for (a, b), rest in zip(pairs, draw(pairs, base, negatives, hard, seed), strict=True)]


def draw(pairs: Sequence[tuple[str, str]], base: KnowledgeBase, count: int, hard: float, seed: int) -> list[tuple[str, ...]]:
    """`count` texts a pair that belong to neither side of it, the share `hard` of them from the positive's category.

    They come from the objects of the knowledge base, else from the pairs. Raises `CorpusError` where too few are left.
    """
    category = {thing.text: thing.category for thing in base.things}
    pool = list(dict.fromkeys([*category, *(text for pair in pairs for text in pair)]))
    at = {text: place for place, text in enumerate(pool)}
    places = np.array([[at[a], at[b]] for a, b in pairs])
    _, kind = np.unique([category.get(text, "") for text in pool], return_inverse=True)
    order, sizes = np.argsort(kind, kind="stable"), np.bincount(kind)
    first = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    forbidden = np.unique(np.concatenate([_keys(places[:, 0], places[:, 1], len(pool)), _keys(places[:, 0], places[:, 0], len(pool))]))
    random = np.random.default_rng(seed)
    anchors = np.repeat(places[:, :1], count, axis=1)
    near = np.tile(np.arange(count) < round(hard * count), (len(pairs), 1))
    found = np.full((len(pairs), count), NOWHERE)
    for tried in range(ROUNDS):
        open_ = found == NOWHERE
        if not open_.any():
            break
        share = random.random(found.shape)
        kinds = np.repeat(kind[places[:, 1]][:, None], count, axis=1)
        close = order[first[kinds] + (share * sizes[kinds]).astype(np.int64)]
        drawn = np.where(near & (tried < ROUNDS // 2), close, (share * len(pool)).astype(np.int64))  # a category may hold too few
        fits = open_ & ~np.isin(_keys(anchors, drawn, len(pool)), forbidden)
        found[fits] = drawn[fits]
    if (found == NOWHERE).any():
        raise CorpusError(
            f"{len(pool):,} texts are too few to draw {count} negatives a pair from: give negatives, or a larger knowledge base"
        )
    return [tuple(pool[place] for place in row) for row in found.tolist()]


def _keys(a: Places, b: Places, size: int) -> Places:
    """One number for each unordered pair."""
    return np.minimum(a, b) * size + np.maximum(a, b)


def apart(groups: Sequence[Group], share: float) -> tuple[list[Group], list[Group]]:
    """To learn from, and to watch: the share of the anchors, by hash."""

    def watched(group: Group) -> bool:
        return int(hashlib.sha256(group.anchor.encode()).hexdigest()[:8], 16) < share * 16**8

    return [one for one in groups if not watched(one)], [one for one in groups if watched(one)]


def joint_rows(groups: Sequence[Group], places: dict[str, int]) -> Dataset:
    """Columns anchor, positive, negative_1, ..., and as label the score and the places of all texts."""
    widths = {len(one.others) for one in groups}
    if len(widths) != 1:
        raise ParameterError(f"groups of {min(widths)} to {max(widths)} texts: all must have equally many negatives")
    names = ["anchor", "positive", *(f"negative_{number}" for number in range(1, widths.pop()))]
    return Dataset.from_list(
        [
            dict(zip(names, (one.anchor, *one.others), strict=True))
            | {"label": [one.score, *(float(places.get(text, NOWHERE)) for text in (one.anchor, *one.others))]}
            for one in groups
        ]
    )


def concept_rows(base: KnowledgeBase, *, towers: int = 1) -> Dataset:
    """Every object with a known concept, once for each tower. Raises `CorpusError` where none has one."""
    known = set(base.concepts)
    found = [(thing.text, float(place)) for place, thing in enumerate(base.things) if known & set(thing.concepts)]
    if not found:
        raise CorpusError("no object of the knowledge base has a concept of it: nothing says what the dimensions mean")
    names = ("anchor", "positive")[:towers]
    return Dataset.from_list([dict.fromkeys(names, text) | {"label": [0.0, *[place] * towers]} for text, place in found])
