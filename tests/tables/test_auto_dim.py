"""AutoDim: the mix of widths against its formula, what cools, a folded normalisation, widths within a budget."""

import pytest
import torch
from torch.nn.functional import batch_norm

from regraft.errors import ParameterError
from regraft.tables.embedding import load_table
from regraft.tables.embeddings.auto_dim import AutoDimEmbedding
from regraft.tables.fields import FieldTables
from toys.stages import steps_of, trained

FIELDS, D = (200, 60, 3), 8
IDS = torch.tensor([[3, 210, 261], [3, 201, 262], [199, 259, 260], [7, 200, 260]])


def table(**settings):
    torch.manual_seed(0)
    return AutoDimEmbedding(sum(FIELDS), D, **{"fields": FIELDS} | settings)


def rows_of(net, field, ids, place):
    return net.tables[place][ids] @ net.weights[place][field] + net.biases[place, field]


def test_candidates_are_powers_of_two():
    assert table().candidates == (2, 4, 8)
    assert AutoDimEmbedding(50, 12).candidates == (2, 4, 8, 12)
    assert AutoDimEmbedding(50, 1).candidates == (1,)


def test_rows_are_the_mix_of_all_widths():
    net = table().eval()
    with torch.no_grad():
        net.alphas.normal_()
        net.means.normal_()
        net.variances.uniform_(0.5, 2)
        net.biases.normal_()
    p = net.alphas.softmax(1)
    for field in range(3):
        ids = IDS[:, field]
        wanted = sum(
            p[field, k] * batch_norm(rows_of(net, field, ids, k), net.means[k, field], net.variances[k, field], eps=1e-5) for k in range(3)
        )
        assert torch.allclose(net(IDS)[:, field], wanted, atol=1e-5)


def test_in_training_columns_are_normalised_over_the_batch_and_shares_are_noisy():
    net = table(candidates=(4,)).train()
    rows = net(IDS)
    assert torch.allclose(rows.mean(0), torch.zeros(3, D), atol=1e-5)
    assert torch.equal(net.shares(), torch.ones(3, 1))
    many = table().train()
    with torch.no_grad():
        many.alphas.copy_(torch.tensor([[2.0, 0.0, -1.0]] * 3))
    drawn = torch.stack([many.shares().argmax(1) for _ in range(3000)]).flatten()
    assert torch.allclose(torch.bincount(drawn, minlength=3) / len(drawn), many.alphas[0].softmax(0), atol=0.02)  # the Gumbel trick


def test_it_cools_with_what_it_has_seen():
    net = table().train()
    assert net.temperature() == 1
    for _ in steps_of(net, lambda: net(IDS).square().mean(), 5):
        pass
    assert net.seen == 5 * 4
    assert net.temperature() == pytest.approx(1 - 0.00005 * 20 / 2000)
    net.seen = 10**9
    assert net.temperature() == 0.01
    net.begin("search", 10)
    assert net.seen == 0


def test_the_gradient_of_alpha_is_that_of_the_mix():
    net = table(scaled=False).eval()  # without noise
    upstream = torch.randn(4, 3, D)
    (net(IDS) * upstream).sum().backward()
    p = net.alphas.detach().softmax(1)
    for field in range(3):
        mixed = [rows_of(net, field, IDS[:, field], k) / (net.variances[k, field] + 1e-5).sqrt() for k in range(3)]  # means are 0
        each = torch.stack([(one * upstream[:, field]).sum() for one in mixed])
        wanted = p[field] * (each - (p[field] * each).sum())
        assert torch.allclose(net.alphas.grad[field], wanted.detach(), atol=1e-4)
    even = table().eval()
    (even(IDS) * upstream).sum().backward()
    assert torch.allclose(even.alphas.grad.abs().mean(1), torch.ones(3), atol=1e-4)


def test_what_is_chosen_serves_as_the_mix_did_with_it_alone():
    net = table().train()
    ids = torch.stack([torch.randint(0, n, (64,)) + s for n, s in zip(FIELDS, (0, 200, 260), strict=True)], 1)
    for _ in steps_of(net, lambda: (net(ids) - 0.3).square().mean(), 5):
        pass
    with torch.no_grad():
        net.alphas.copy_(torch.tensor([[100.0, 0, 0], [0, 100, 0], [0, 100, 0]]))
    net.eval()
    served = net.export()
    assert served.widths == (2, 4, 8)  # 3 rows of width 4 with a map take more than plain ones
    assert torch.allclose(served(IDS), net(IDS), atol=1e-5)
    assert served.memory().serving_words == 200 * 2 + 2 * 8 + 8 + 60 * 4 + 4 * 8 + 8 + 3 * 8
    assert served.export() is served
    assert not served.architecture()


def test_without_room_the_widths_that_are_missed_least_go():
    net = table(share=0.5)
    with torch.no_grad():
        net.alphas.copy_(torch.tensor([[0.0, 2.9, 3.0], [0.0, 1.0, 3.0], [0.0, 1.0, 3.0]]))
    assert net.chosen() == (2, 8, 8)  # what is left after the first field cannot be given to it at width 4
    assert net.export().memory().serving_words <= 0.5 * sum(FIELDS) * D
    with torch.no_grad():
        net.share = 1.0
    assert net.chosen() == (4, 8, 8)  # all at 8 would be the plain table, which is no smaller
    with pytest.raises(ParameterError, match=r"auto-dim: .* the least is"):
        FieldTables(FIELDS, D, AutoDimEmbedding, 0.1)


@pytest.mark.parametrize("anew", [False, True])
def test_a_search_tells_which_field_needs_width(anew, tmp_path):
    torch.manual_seed(3)
    signs = torch.randn(200)
    ids = torch.stack([torch.randint(0, 200, (800,)), torch.randint(200, 260, (800,)), torch.randint(260, 263, (800,))], 1)
    net = table(share=0.6, anew=anew)
    assert net.memory().training_words > 1.5 * sum(FIELDS) * D
    before = net.alphas.detach().clone()
    end = trained(net, ids, lambda ids: signs[ids[:, 0]], steps=50)
    assert not torch.equal(net.alphas.detach(), before)
    assert end.widths is not None
    assert end.memory().serving_words <= 0.6 * sum(FIELDS) * D
    end.save(tmp_path)
    assert torch.equal(load_table(tmp_path).decompressed(), end.eval().decompressed())


def test_a_search_goes_on_from_its_files(tmp_path):
    net = table().train()
    for _ in steps_of(net, lambda: net(IDS).square().mean(), 3, search=lambda: (net(IDS) - 1).square().mean()):
        pass
    net.save(tmp_path)
    again = load_table(tmp_path)
    net.begin("search", 3)  # a stage that was cut off is begun anew
    assert torch.equal(again.decompressed(), net.decompressed())
    assert torch.equal(again.alphas, net.alphas)
    assert again.export().widths == net.export().widths


@pytest.mark.parametrize("bad", [{"candidates": ()}, {"candidates": (4, 2)}, {"candidates": (4, 16)}, {"widths": (2, 4)}, {"share": 1.5}])
def test_bad_settings(bad):
    with pytest.raises(ParameterError, match="auto-dim: "):
        table(**bad).words(sum(FIELDS), D, fields=FIELDS, **bad)
