"""Entities as spans of words, and how many of them a tagger found exactly: right borders and right label, as CoNLL counts."""

from collections.abc import Sequence

from regraft.tasks.labelled.examples import OUTSIDE

Span = tuple[int, int, str]  # first word, word behind the last, label


def spans_of(tags: Sequence[str]) -> set[Span]:
    """The entities of a tag sequence in BIO or BIOES, read as CoNLL's own scorer reads them.

    B- and S- begin an entity; so does an I- or E- behind O or behind another label, which is how sloppy annotation and models write. E-
    and S- end one.
    """
    found: set[Span] = set()
    start, current = 0, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, label = tag.partition("-")
        if current and (mark in ("O", "B", "S") or label != current):
            found.add((start, place, current))
            current = ""
        if mark != OUTSIDE and not current:
            start, current = place, label
        if mark in ("E", "S"):
            found.add((start, place + 1, current))
            current = ""
    return found


def tags_of(spans: set[Span], length: int) -> list[str]:
    """BIO tags of `length` words; where spans overlap, the one that begins first and is longest stays."""
    tags = [OUTSIDE] * length
    for start, end, label in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
        if start < end and all(tag == OUTSIDE for tag in tags[start:end]):
            tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return tags


def count_exact(gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """True positives, false positives and false negatives among the entities of one sentence."""
    right, said = spans_of(gold), spans_of(predicted)
    hits = len(right & said)
    return hits, len(said) - hits, len(right) - hits
