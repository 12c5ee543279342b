"""AUC by ranks and its influence: scikit-learn's value with ties, DeLong's variance, and pairs counted one by one."""

import numpy as np
import pytest
from sklearn.metrics import log_loss as reference_log_loss
from sklearn.metrics import roc_auc_score

from regraft.errors import ParameterError
from regraft.tables.ctr.measure import MOST, auc, influence, interval, log_loss, sample_of

RNG = np.random.default_rng(0)


def drawn(count=400, ties=True):
    labels = RNG.integers(0, 2, count)
    scores = labels + RNG.normal(size=count) * 1.5
    return (np.round(scores) if ties else scores), labels


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_scikit_learns_and_the_mean_of_influence(ties):
    scores, labels = drawn(ties=ties)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert influence(scores, labels).mean() == pytest.approx(auc(scores, labels), abs=1e-12)
    assert auc(-scores, labels) == pytest.approx(1 - auc(scores, labels))


def test_nothing_told_apart_is_a_half():
    assert auc(np.zeros(10), np.arange(10) % 2) == 0.5
    assert auc(np.array([1.0, 2, 3]), np.array([0, 0, 1])) == 1


def test_the_variance_of_influence_is_delongs():
    scores, labels = drawn()
    clicks, others = scores[labels == 1], scores[labels == 0]
    above = (clicks[:, None] > others) + 0.5 * (clicks[:, None] == others)
    delong = above.mean(1).var() / len(clicks) + above.mean(0).var() / len(others)
    assert influence(scores, labels).var() / len(labels) == pytest.approx(delong, rel=1e-9)


def test_the_interval_is_that_of_drawing_rows_again():
    scores, labels = drawn()
    low, high = interval(sample_of([influence(scores, labels)]))
    again = [auc(scores[rows], labels[rows]) for rows in RNG.integers(400, size=(1000, 400))]
    assert (low, high) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])), abs=0.008)


def test_many_rows_are_groups_with_the_same_value():
    values = [RNG.random(MOST + 777), RNG.random(MOST + 777)]
    sample = sample_of(values)
    assert sample.documents == MOST
    assert sample.value == pytest.approx(np.mean(values), abs=1e-6)


def test_log_loss_is_scikit_learns_and_bears_extreme_logits():
    scores, labels = drawn()
    assert log_loss(scores, labels).mean() == pytest.approx(reference_log_loss(labels, 1 / (1 + np.exp(-scores))))
    assert log_loss(np.array([1000.0, -1000.0]), np.array([0, 1])).tolist() == [1000, 1000]


def test_what_has_no_auc():
    with pytest.raises(ParameterError, match="one class"):
        auc(np.arange(3.0), np.ones(3))
    with pytest.raises(ParameterError, match="NaN"):
        auc(np.array([0, np.nan]), np.array([0, 1]))
