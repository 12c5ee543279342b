"""Entities by hand, and the two readings undoing each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.tasks.spans import count_exact, spans_of, tags_of


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", set()),
        ("O O", set()),
        ("B-a I-a O", {(0, 2, "a")}),
        ("B-a B-a", {(0, 1, "a"), (1, 2, "a")}),
        ("O I-a I-a", {(1, 3, "a")}),  # an I- behind O begins one
        ("B-a I-b", {(0, 1, "a"), (1, 2, "b")}),  # and so does another label
        ("B-a I-a E-a I-a", {(0, 3, "a"), (3, 4, "a")}),  # behind an E- the next one is new
        ("S-a S-a B-a", {(0, 1, "a"), (1, 2, "a"), (2, 3, "a")}),
        ("O B-x-y I-x-y", {(1, 3, "x-y")}),
    ],
)
def test_spans_by_hand(tags, spans):
    assert spans_of(tags.split()) == spans


cuts = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["", "a", "b"])), max_size=8)


@given(cuts)
def test_tags_and_spans_undo_each_other(parts):
    spans, end = set(), 0
    for length, label in parts:
        if label:
            spans.add((end, end + length, label))
        end += length
    assert spans_of(tags_of(spans, end)) == spans


def test_where_spans_overlap_the_first_and_longest_stays():
    assert tags_of({(0, 3, "a"), (0, 1, "b"), (2, 4, "c")}, 4) == ["B-a", "I-a", "I-a", "O"]


def test_only_exact_borders_and_labels_count():
    gold = ["B-a", "I-a", "O", "B-b", "O"]
    assert count_exact(gold, gold) == (2, 0, 0)
    assert count_exact(gold, ["B-a", "O", "O", "B-b", "O"]) == (1, 1, 1)  # half an entity is wrong twice
    assert count_exact(gold, ["B-b", "I-b", "O", "O", "O"]) == (0, 1, 2)
    assert count_exact(["O"], ["B-a"]) == (0, 1, 0)
