"""The layer agrees with the arrays, keeps gradients where they belong, and never gives NaN."""

import numpy as np
import pytest
import torch
from torch import nn

from regraft.align.aligners.relative_representations.coordinates import Coordinates, Recipe
from regraft.align.aligners.relative_representations.module import RelativeProjection, quantize, similarities, unit
from regraft.align.aligners.relative_representations.projections import SIMILARITIES, project
from regraft.errors import ParameterError

GENERATOR = torch.Generator().manual_seed(0)
X, A = (torch.randn(n, 8, generator=GENERATOR, dtype=torch.float64) for n in (12, 20))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_similarities_are_those_of_the_arrays_and_differentiable(similarity):
    np.testing.assert_allclose(similarities(X, A, similarity).numpy(), project(X.numpy(), A.numpy(), similarity), atol=1e-7)
    few = A[:4].clone().requires_grad_(), X[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, z: similarities(z, a, similarity, 0.1), few)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_rows_of_no_length_and_rows_that_are_anchors_have_finite_gradients(similarity):
    z = torch.cat([torch.zeros(1, 8, dtype=torch.float64), A[:2], 2 * A[2:3]]).requires_grad_()
    found = similarities(z, A, similarity)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().max() < 1e3
    zero = torch.zeros(2, 3, requires_grad=True)
    unit(zero).sum().backward()
    assert not zero.grad.any()


def test_rounding_has_the_gradient_of_the_identity():
    r = torch.linspace(-1, 1, 41, requires_grad=True)
    rounded = quantize(r, 0.25)
    assert torch.equal(quantize(rounded, 0.25), rounded)
    rounded.sum().backward()
    assert torch.equal(r.grad, torch.ones(41))


@pytest.mark.parametrize("pooling", ["concat", "sum", "mean", "max"])
def test_the_layer_is_the_transformer_without_training(pooling):
    layer = RelativeProjection(nn.Identity(), A, chunks=3, pooling=pooling, center=True, normalize=False)
    expected = Coordinates(A.numpy(), Recipe(chunks=3, pooling=pooling, steps="center")).relative(X.numpy())
    np.testing.assert_allclose(layer(X).numpy(), expected, atol=1e-9)


def test_linear_pooling_begins_as_the_mean_and_learns():
    mean, linear = (RelativeProjection(nn.Identity(), A.float(), chunks=2, pooling=one) for one in ("mean", "linear"))
    torch.testing.assert_close(linear(X.float()), mean(X.float()))
    linear(X.float()).square().mul(torch.arange(20)).sum().backward()
    assert linear.weights.grad.abs().max() > 0


@pytest.mark.parametrize("through", [False, True])
def test_anchors_are_encoded_anew_and_their_gradient_is_stopped_by_default(through):
    torch.manual_seed(0)
    encoder = nn.Linear(8, 5)
    layer = RelativeProjection(encoder, A.float(), anchor_gradient=through, normalize=False)
    before = layer(X.float())
    before.sum().backward()
    given = encoder.weight.grad.clone()
    encoder.zero_grad()
    a = encoder(A.float())
    (unit(encoder(X.float())) @ unit(a if through else a.detach()).T).sum().backward()
    torch.testing.assert_close(given, encoder.weight.grad)
    with torch.no_grad():
        encoder.weight.mul_(-1).add_(0.3)
    assert (layer(X.float()) - before).abs().max() > 0.1


def test_a_row_does_not_depend_on_its_batch_and_half_precision_is_raised():
    layer = RelativeProjection(nn.Identity(), A.float(), similarity=("cosine", "l1"))
    torch.testing.assert_close(layer(X.float())[3:4], layer(X[3:4].float()))
    assert RelativeProjection(nn.Identity(), A.bfloat16())(X.bfloat16()).dtype == torch.float32


def test_it_is_saved_with_its_anchors():
    layer = RelativeProjection(nn.Linear(8, 4), A.float())
    other = RelativeProjection(nn.Linear(8, 4), torch.zeros(20, 8))
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(X.float()), layer(X.float()))


@pytest.mark.parametrize("settings", [{"similarity": "best"}, {"similarity": ()}, {"chunks": 0}, {"width": 0.0}])
def test_bad_settings_are_one_line(settings):
    with pytest.raises(ParameterError, match=r"^relative projection: "):
        RelativeProjection(nn.Identity(), A, **settings)
