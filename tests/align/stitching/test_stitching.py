"""Heads read rotated spaces as their own, a model stitched to itself is not stitched, and what does not fit is left blank."""

import numpy as np
import pytest

from regraft.align.aligners.relative_representations import RelativeSpace
from regraft.align.aligners.semantic_alignment import SemanticAlignment
from regraft.align.report.agreement_figures import stitching_maps
from regraft.align.stitching import Cell, Encoded, HeadSettings, stitching_matrix
from regraft.align.stitching.head import fit_head, predict
from regraft.errors import ParameterError
from regraft.reproductions.harness.align.digit_encoders import digit_encoders

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(4, 12))
LABELS = tuple(np.array(list("abcd"))[RNG.integers(4, size=n)] for n in (160, 80))
ROWS = [CENTERS[np.searchsorted(list("abcd"), side)] + 0.35 * RNG.normal(size=(len(side), 12)) for side in LABELS]
ANCHORS = np.arange(0, 160, 4)
QUICK = HeadSettings(epochs=6, hidden=16, lr=5e-3)


def encoded(matrix):
    train, test = (rows @ matrix for rows in ROWS)
    return Encoded(train, test, train[ANCHORS])


ROTATION = np.linalg.qr(RNG.normal(size=(12, 12)))[0]
SPACES = {"first": encoded(np.eye(12)), "turned": encoded(3 * ROTATION), "wide": encoded(np.hstack([ROTATION, np.zeros((12, 4))]))}


@pytest.fixture(scope="module")
def found():
    translators = {"procrustes": SemanticAlignment(standardize=False)}
    return stitching_matrix(SPACES, LABELS, head=QUICK, seeds=(0, 1), translators=translators)


def test_relative_heads_read_a_turned_space_as_their_own(found):
    cells = {(cell.encoder, cell.head): cell for cell in found.of("relative")}
    for head in SPACES:
        for encoder in SPACES:
            np.testing.assert_array_equal(cells[encoder, head].correct, cells[head, head].correct)
    assert cells["turned", "first"].accuracy > 0.9
    absolute = {(cell.encoder, cell.head): cell for cell in found.cells if cell.way == "absolute"}
    assert absolute["turned", "first"].accuracy < 0.7
    assert absolute["wide", "first"].correct is None
    turned = {(cell.encoder, cell.head): cell for cell in found.of("procrustes")}["wide", "first"]
    np.testing.assert_array_equal(turned.correct, absolute["first", "first"].correct)


def test_the_report_has_every_cell(found):
    rows = found.rows()
    assert [(row["encoder"], row["head"]) for row in rows] == [(one, other) for one in SPACES for other in SPACES]
    assert rows[2]["absolute"] is None
    assert found.of("relative", stitched=True)[0].correct.shape == (2, 80)
    seeds = np.array([[True, True, True, True], [True, False, False, True]])
    assert Cell("a", "b", "relative", seeds).std == pytest.approx(np.sqrt(2) / 4)  # of 1 and 1/2, by n - 1
    assert rows[1]["relative"] == f"{found.of('relative')[1].accuracy:.3f} ± {found.of('relative')[1].std:.3f}"
    summary = {row["way"]: row for row in found.summary()}
    assert summary["relative"]["stitched"] == pytest.approx(np.mean([one.accuracy for one in found.of("relative", stitched=True)]))
    assert summary["absolute"]["worst stitched"] == min(one.accuracy for one in found.of("absolute", stitched=True))
    drawn = stitching_maps(found).to_plotly_json()["data"]
    assert [len(one["z"]) for one in drawn] == [3, 3, 3]


def test_a_model_stitched_to_itself_is_not_stitched():
    both = stitching_matrix({"a": SPACES["first"], "b": encoded(np.eye(12))}, LABELS, head=QUICK, seeds=(0,), heads=["a"])
    for way in both.ways:
        own, other = (next(c for c in both.of(way) if c.encoder == name) for name in "ab")
        assert (own.correct == other.correct).mean() == (1 if way != "procrustes" else pytest.approx(1, abs=0.02))
    assert {cell.head for cell in both.cells} == {"a"}
    assert both.of("relative")[0].std is None


def test_a_head_reads_each_row_by_itself():
    numbers = np.searchsorted(list("abcd"), LABELS[0])
    head = fit_head(ROWS[0], numbers, 4, QUICK, seed=1)
    whole = predict(head, ROWS[1])
    np.testing.assert_array_equal(np.concatenate([predict(head, row[None]) for row in ROWS[1]]), whole)
    again = fit_head(ROWS[0], numbers, 4, QUICK, seed=1)
    np.testing.assert_array_equal(predict(again, ROWS[1]), whole)
    assert not any("Batch" in type(part).__name__ or "Instance" in type(part).__name__ for part in head)


def test_encoders_of_digits_stitch():
    digits = digit_encoders(0, epochs=5, kinds=2)
    anchors = np.random.default_rng(0).permutation(1300)[:100]
    spaces = {name: Encoded(train, test, train[anchors]) for name, (train, test) in digits.vectors.items()}
    found = stitching_matrix(spaces, digits.labels, head=HeadSettings(hidden=64, epochs=5), seeds=(0,), relative=RelativeSpace())
    summary = {row["way"]: row for row in found.summary()}
    assert summary["relative"]["stitched"] >= summary["absolute"]["stitched"] + 0.6
    assert summary["relative"]["stitched"] >= summary["relative"]["own encoder"] - 0.06


def test_bad_input_is_one_line():
    first = SPACES["first"]
    fewer = Encoded(first.train[:9], first.test, first.anchors)
    for call, says in (
        (lambda: stitching_matrix({}, LABELS), "no encoder given"),
        (lambda: stitching_matrix(SPACES, LABELS, heads=["third"]), r"no encoder \['third'\]"),
        (lambda: stitching_matrix({"a": first, "b": fewer}, LABELS), "encode the same samples"),
        (lambda: stitching_matrix(SPACES, (LABELS[0][:5], LABELS[1])), "5 and 80 labels"),
        (lambda: stitching_matrix(SPACES, (["a"] * 160, LABELS[1])), "one class"),
        (lambda: Encoded(first.train, first.test[:, :3], first.anchors), "rows of one dimension"),
        (lambda: Encoded(first.train * np.nan, first.test, first.anchors), "NaN"),
        (lambda: HeadSettings(epochs=0), "epochs=0"),
    ):
        with pytest.raises(ParameterError, match=says):
            call()
