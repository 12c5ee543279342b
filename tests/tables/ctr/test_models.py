"""The four models: their formulas pair by pair, numbers, and that every parameter learns."""

import itertools

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.ctr.models import MODELS, layers, make_model
from regraft.tables.embeddings.hash import HashEmbedding
from regraft.tables.fields import FieldTables

SIZES, D, B = [7, 5, 3], 4, 6


def made(name, numbers=2, **widths):
    torch.manual_seed(0)
    model = make_model(name, FieldTables(SIZES, D, HashEmbedding, 0.6), numbers, **widths)
    ids = torch.stack([torch.randint(0, size, (B,)) for size in SIZES], 1)
    return model, ids, torch.randn(B, numbers)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("numbers", [0, 2])
def test_every_weight_has_a_gradient(name, numbers):
    model, ids, values = made(name, numbers)
    logits = model(ids, values)
    assert logits.shape == (B,)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_numbers_of_another_shape(name):
    model, ids, values = made(name)
    with pytest.raises(ParameterError, match=r"give \(6, 2\)"):
        model(ids, values[:, :1])
    with pytest.raises(ParameterError, match=r"give \(6, 2\)"):
        model(ids)


def test_dlrm_sees_all_pairs_and_the_bottom():
    model, ids, values = made("dlrm", top=(8,))
    vectors = torch.cat([model.bottom(values).unsqueeze(1), model.tables(ids)], 1)
    pairs = [(vectors[:, a] * vectors[:, b]).sum(1) for a, b in itertools.combinations(range(4), 2)]
    wanted = model.top(torch.cat([vectors[:, 0], torch.stack(pairs, 1)], 1)).squeeze(1)
    assert torch.allclose(model(ids, values), wanted, atol=1e-6)


def test_deepfm_is_its_sum_over_pairs():
    model, ids, values = made("deepfm")
    rows = model.tables(ids)
    pairs = sum((rows[:, a, 1:] * rows[:, b, 1:]).sum(1) for a, b in itertools.combinations(range(3), 2))
    deep = model.deep(torch.cat([rows[:, :, 1:].flatten(1), values], 1)).squeeze(1)
    wanted = rows[:, :, 0].sum(1) + pairs + deep + values @ model.linear.weight[0]
    assert torch.allclose(model(ids, values), wanted, atol=1e-6)


def test_a_cross_is_a_product_with_the_first_layer():
    model, ids, values = made("dcn", crosses=1)
    first = torch.cat([model.tables(ids).flatten(1), values], 1)
    crossed = first * (first @ model.crosses[0].weight.T + model.crosses[0].bias) + first
    assert torch.allclose(model(ids, values), model.last(torch.cat([crossed, model.deep(first)], 1)).squeeze(1), atol=1e-6)
    assert sum(p.numel() for p in made("dcn", rank=2)[0].crosses.parameters()) == 3 * (14 * 2 + 2 * 14 + 14)


def test_wide_and_deep_add_up():
    model, ids, values = made("wdl")
    flat = torch.cat([model.tables(ids).flatten(1), values], 1)
    assert torch.allclose(model(ids, values), (model.wide(flat) + model.deep(flat)).squeeze(1))


def test_names_and_widths():
    with pytest.raises(ParameterError, match="choose dlrm, wdl, dcn, deepfm"):
        make_model("xdeepfm", FieldTables(SIZES, D))
    assert [type(one).__name__ for one in layers(3, (5, 1))] == ["Linear", "ReLU", "Linear"]
