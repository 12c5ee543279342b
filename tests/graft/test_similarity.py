import entmax
import numpy as np
import pytest
import torch

from regraft.errors import ParameterError
from regraft.graft import similarity
from regraft.graft.similarity import softmax_nearest, sparsemax, sparsemax_cosine, unit_rows


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (20, 64), (11, 200), (5, 3000)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_sparsemax_equals_entmax(shape, scale):
    scores = scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = entmax.sparsemax(scores.double(), dim=1).numpy()
    weights = sparsemax(scores)
    assert np.abs(weights.toarray() - expected).max() < 1e-6 * max(1, scale)
    assert np.abs(weights.sum(axis=1) - 1).max() < 1e-12
    assert weights.data.min() > 0


def test_sparsemax_of_equal_scores_is_uniform():
    assert np.allclose(sparsemax(torch.full((2, 130), 0.7)).toarray(), 1 / 130, atol=1e-9)


def test_block_size_does_not_change_the_result(monkeypatch):
    draw = np.random.default_rng(0)
    queries, anchors = draw.standard_normal((37, 8)).astype(np.float32), draw.standard_normal((150, 8)).astype(np.float32)
    whole, nearest = sparsemax_cosine(queries, anchors), softmax_nearest(queries, anchors, 5, 0.1)
    monkeypatch.setattr(similarity, "BLOCK_BYTES", 4 * 150 * 10)
    assert np.abs((sparsemax_cosine(queries, anchors) - whole).toarray()).max() < 1e-6
    assert np.abs((softmax_nearest(queries, anchors, 5, 0.1) - nearest).toarray()).max() < 1e-5


def test_softmax_nearest_by_hand():
    anchors = np.array([[1, 0], [0, 2], [-1, 0], [3, 3]], dtype=np.float32)
    weights = softmax_nearest(np.array([[2, 0]], dtype=np.float32), anchors, 2, 0.5).toarray()[0]
    raw = np.exp(np.array([1.0, np.sqrt(0.5)]) / 0.5)
    assert np.allclose(weights, [raw[0] / raw.sum(), 0, 0, raw[1] / raw.sum()], atol=1e-6)


def test_more_neighbors_than_anchors_is_an_error():
    with pytest.raises(ParameterError, match="k=3 nearest, but only 2"):
        softmax_nearest(np.ones((1, 2), np.float32), np.ones((2, 2), np.float32), 3, 0.1)


def test_unit_rows_leaves_zero_rows():
    assert unit_rows(np.array([[3, 4], [0, 0]], np.float32)).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]


def test_no_queries_and_no_anchors():
    assert sparsemax_cosine(np.zeros((0, 3), np.float32), np.ones((4, 3), np.float32)).shape == (0, 4)
    with pytest.raises(ParameterError, match="at least one anchor"):
        sparsemax(torch.zeros(2, 0))


def test_a_crowded_row_is_that_of_its_nearest_anchors():
    draw = np.random.default_rng(0)
    anchors = 1 + 0.02 * draw.standard_normal((400, 8)).astype(np.float32)  # all alike
    queries = np.concatenate([anchors[:3], [[1, -1] * 4]]).astype(np.float32)
    everything, thinned = sparsemax_cosine(queries, anchors).toarray(), sparsemax_cosine(queries, anchors, most=50).toarray()
    assert (everything[:3] > 0).sum(axis=1).min() > 50
    assert (thinned > 0).sum(axis=1).max() == 50
    for row in range(3):
        nearest = np.argsort(-everything[row])[:50]
        assert np.allclose(thinned[row, nearest], sparsemax_cosine(queries[row : row + 1], anchors[nearest]).toarray()[0], atol=1e-6)
    assert np.allclose(thinned.sum(axis=1), 1)
