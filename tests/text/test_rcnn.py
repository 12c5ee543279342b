"""RCNN: what a word's context holds, masks, and that it learns."""

import numpy as np
import pytest
import torch

from regraft.errors import ParameterError
from regraft.text.classifiers.rcnn import RCNN, fit, padded, predict


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = RCNN(np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32), classes=2, context=3, hidden=5).eval()
    torch.nn.init.normal_(net.first)
    torch.nn.init.normal_(net.last)
    return net


def test_a_words_context_is_without_the_word(model):
    ids, lengths = padded([[1, 2, 3, 4, 5]])
    other = ids.clone()
    other[0, 2] = 8
    (_, left, right), (_, left2, right2) = model.states(ids, lengths), model.states(other, lengths)
    assert torch.equal(left[0, :3], left2[0, :3])
    assert torch.equal(right[0, 2:], right2[0, 2:])
    assert not torch.allclose(left[0, 3], left2[0, 3])
    assert not torch.allclose(right[0, 1], right2[0, 1])


def test_contexts_are_the_recurrence_from_learned_ends(model):
    _, left, right = model.states(*padded([[1, 2, 3]]))
    assert torch.equal(left[0, 0], model.first)
    assert torch.equal(right[0, 2], model.last)
    e = model.e.weight
    wanted = torch.tanh(model.left.weight_hh_l0 @ model.first + model.left.weight_ih_l0 @ e[1])
    assert torch.allclose(left[0, 1], wanted, atol=1e-6)
    wanted = torch.tanh(model.right.weight_hh_l0 @ model.last + model.right.weight_ih_l0 @ e[3])
    assert torch.allclose(right[0, 1], wanted, atol=1e-6)


def test_padding_changes_nothing(model):
    alone = model(*padded([[1, 2, 3]]))
    beside = model(*padded([[1, 2, 3], [4, 5, 6, 7, 8, 1, 2]]))
    assert torch.allclose(alone[0], beside[0], atol=1e-6)
    assert torch.isfinite(model(*padded([[4]]))).all()


def test_a_reversed_text_swaps_left_and_right(model):
    turned = RCNN(model.e.weight.detach().numpy(), classes=2, context=3, hidden=5)
    turned.load_state_dict(model.state_dict())
    turned.left, turned.right = model.right, model.left
    turned.first, turned.last = model.last, model.first
    _, left, right = model.states(*padded([[1, 2, 3, 4]]))
    _, left2, right2 = turned.states(*padded([[4, 3, 2, 1]]))
    assert torch.allclose(left2.flip(1), right, atol=1e-6)
    assert torch.allclose(right2.flip(1), left, atol=1e-6)


def test_it_learns_the_order_of_two_words(model):
    random = np.random.default_rng(0)
    documents = [random.integers(3, 9, size=int(random.integers(0, 4))).tolist() for _ in range(200)]
    labels = random.integers(0, 2, size=200).tolist()
    documents = [[*one, *((1, 2) if label else (2, 1))] for one, label in zip(documents, labels, strict=True)]
    losses = fit(model, documents[:150], labels[:150], epochs=12, lr=1e-2)
    assert losses[-1] < losses[0]
    assert (predict(model, documents[150:]) == labels[150:]).mean() > 0.9


def test_an_empty_document_is_refused(model):
    with pytest.raises(ParameterError, match="at least one word"):
        fit(model, [[1], []], [0, 1])
