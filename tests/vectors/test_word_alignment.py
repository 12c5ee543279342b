import random
from collections import defaultdict

import numpy as np
import pytest
from scipy.special import digamma

from regraft.errors import CorpusError, ParameterError
from regraft.vectors import word_alignment
from regraft.vectors.word_alignment import Aligner, fit, link_counts, read_bitext

MODEL_1 = Aligner(iterations=1, tension=0, null=0, alpha=None)
# the 0 house 1 book 2 a 3; das 0 haus 1 buch 2 ein 3
HOUSE = ([[0, 1], [0, 2], [3, 2]], [[0, 1], [0, 2], [3, 2]])


def table(fitted, shape):
    dense = np.zeros((shape[0], shape[1] + 1))
    dense[fitted.target, fitted.source] = fitted.probability
    return dense


def test_first_step_of_model_1_by_hand():
    probability = table(fit(*HOUSE, (4, 4), MODEL_1), (4, 4))
    # the -> das: 1/2 from each of two lines, of 2 links to share; -> haus and buch: 1/2 from one
    assert probability[:, 0].tolist() == [0.5, 0.25, 0.25, 0]
    assert probability[:, 1].tolist() == [0.5, 0.5, 0, 0]
    assert probability[:, 2].tolist() == [0.25, 0, 0.5, 0.25]


def test_second_step_of_model_1_by_hand():
    probability = table(fit(*HOUSE, (4, 4), Aligner(iterations=2, tension=0, null=0, alpha=None)), (4, 4))
    # expected links to "house": das (0.5 of 0.5 + 0.5), haus (0.5 of 0.25 + 0.5)
    das, haus = 0.5, 0.5 / 0.75
    assert probability[:2, 1].tolist() == pytest.approx([das / (das + haus), haus / (das + haus)])


def slow_em(source, target, shape, aligner):
    """The same model, link by link."""
    probability = defaultdict(lambda: 1.0)
    for _ in range(aligner.iterations):
        expected = defaultdict(float)
        for old, new in zip(source, target, strict=True):
            for j, f in enumerate(new):
                prior = np.exp([-aligner.tension * abs((i + 1) / len(old) - (j + 1) / len(new)) for i in range(len(old))])
                prior *= (1 - aligner.null) / prior.sum()
                choices = [(shape[1], aligner.null)] * (aligner.null > 0) + list(zip(old, prior, strict=True))
                scores = np.array([probability[f, e] * p for e, p in choices])
                for (e, _), share in zip(choices, scores / scores.sum(), strict=True):
                    expected[f, e] += share
        for f, e in expected:
            column = [value for (_, other), value in expected.items() if other == e]
            if aligner.alpha is None:
                probability[f, e] = expected[f, e] / sum(column)
            else:
                total = sum(column) + aligner.alpha * len(column)
                probability[f, e] = np.exp(digamma(expected[f, e] + aligner.alpha) - digamma(total))
    return probability


@pytest.mark.parametrize(
    "aligner", [Aligner(iterations=3), Aligner(iterations=3, alpha=None, tension=0), Aligner(iterations=2, null=0, tension=1)]
)
def test_arrays_equal_loops_whatever_the_chunks(aligner, monkeypatch):
    draw = random.Random(0)
    lines = [[[draw.randrange(9) for _ in range(draw.randint(1, 6))] for _ in range(40)] for _ in range(2)]
    slow = slow_em(*lines, (9, 9), aligner)
    for chunk in (10**6, 50):
        monkeypatch.setattr(word_alignment, "CHUNK", chunk)
        fast = fit(*lines, (9, 9), aligner)
        for f, e, p in zip(fast.target.tolist(), fast.source.tolist(), fast.probability.tolist(), strict=True):
            assert p == pytest.approx(slow[f, e], rel=1e-4)


def test_links_of_a_cipher_are_found():
    draw = random.Random(0)
    source = [draw.sample(range(30), draw.randint(4, 9)) for _ in range(300)]
    target = [[29 - unit for unit in draw.sample(line, len(line))] for line in source]  # other order, other names
    counts = link_counts(source, target, (30, 30), Aligner(tension=0))
    assert (counts.toarray().argmax(axis=1) == 29 - np.arange(30)).all()
    assert counts.sum() > 0.95 * sum(map(len, target))


def test_too_long_and_empty_lines_are_left_out():
    aligner = Aligner(max_length=3)
    counts = link_counts([[0], [1, 1, 1, 1], []], [[0], [1], [1]], (2, 2), aligner)
    assert counts.toarray().tolist() == [[1, 0], [0, 0]]
    with pytest.raises(CorpusError, match="no pair of parallel lines has 1 to 3 tokens"):
        fit([[0, 0, 0, 0]], [[0]], (1, 1), aligner)
    with pytest.raises(ParameterError, match="1 source lines for 2 target lines"):
        fit([[0]], [[0], [0]], (1, 1), aligner)


def test_reading_parallel_text(tmp_path):
    one, two = tmp_path / "a.en", tmp_path / "a.vi"
    one.write_text("a cat\n\na dog\n", "utf-8")
    two.write_text("mèo\nchó\nchó\n", "utf-8")
    assert read_bitext(one, two) == (["a cat", "a dog"], ["mèo", "chó"])
    two.write_text("mèo\nchó\n", "utf-8")
    with pytest.raises(CorpusError, match=r"has 3 lines and .*a\.vi 2"):
        read_bitext(one, two)
    two.write_text("\n\n\n")
    with pytest.raises(CorpusError, match="no line has text on both sides"):
        read_bitext(one, two)
    two.write_bytes(b"\xff\xff\n")
    with pytest.raises(CorpusError, match="cannot read the parallel text"):
        read_bitext(one, two)
