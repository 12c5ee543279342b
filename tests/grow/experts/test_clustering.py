"""Clusters of exactly equal size, beside exact assignment and the package that the authors use."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from regraft.grow.experts.clustering import assign, balanced_clusters, inertia, kept_clusters, unit_rows


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 8), st.integers(0, 1000), st.booleans())
def test_the_auction_is_the_exact_assignment(clusters, room, seed, ties):
    draw = np.random.default_rng(seed)
    similar = draw.normal(size=(clusters * room, clusters))
    similar = np.round(similar) if ties else similar
    labels = assign(similar.astype(np.float32))
    assert (np.bincount(labels, minlength=clusters) == room).all()
    rows, columns = linear_sum_assignment(np.repeat(similar, room, axis=1), maximize=True)
    best = np.repeat(similar, room, axis=1)[rows, columns].sum()
    assert similar[np.arange(len(labels)), labels].sum() >= best - 1e-4 * len(labels) - 1e-5


def test_planted_clusters_are_found_whatever_the_length_of_keys():
    draw = np.random.default_rng(0)
    centers, planted = draw.normal(size=(6, 32)), np.repeat(np.arange(6), 20)
    keys = (centers[planted] + 0.3 * draw.normal(size=(120, 32))) * draw.uniform(0.1, 10, size=(120, 1))
    labels = balanced_clusters(keys, 6)
    assert all(len(set(labels[planted == one])) == 1 for one in range(6))
    assert np.array_equal(labels, balanced_clusters(keys * 7, 6))
    assert inertia(keys, labels) < inertia(keys, np.arange(120) % 6)


@pytest.mark.parametrize("keys", [np.zeros((12, 4)), np.ones((12, 4)), np.eye(12)])
def test_keys_that_say_nothing_are_shared_out_equally(keys):
    assert (np.bincount(balanced_clusters(keys, 4)) == 3).all()
    assert np.isfinite(unit_rows(keys)).all()


def test_as_good_as_the_package_of_the_authors():
    package = pytest.importorskip("k_means_constrained")
    keys = np.random.default_rng(0).normal(size=(192, 24)).astype(np.float32)
    theirs = package.KMeansConstrained(n_clusters=8, size_min=24, size_max=24, random_state=0, n_init=1).fit(unit_rows(keys))
    assert inertia(keys, balanced_clusters(keys, 8)) <= 1.02 * theirs.inertia_


def test_labels_are_kept_by_the_weights_themselves(tmp_path):
    keys = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    first = kept_clusters(keys, 4, folder=tmp_path)
    (kept,) = tmp_path.iterdir()
    planted = first[::-1].copy()
    np.save(kept, planted)
    assert np.array_equal(kept_clusters(keys, 4, folder=tmp_path), planted)
    kept.write_bytes(b"broken")
    assert np.array_equal(kept_clusters(keys, 4, folder=tmp_path), first)
    kept_clusters(keys + 1e-3, 4, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    np.save(kept, np.zeros(32, dtype=np.int64))
    assert np.array_equal(kept_clusters(keys, 4, folder=tmp_path), first)
