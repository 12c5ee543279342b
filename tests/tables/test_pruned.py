"""DeepLight, PEP and AutoSrh: what is pruned and when, what learns by what, and the sparse table that is left."""

import math

import pytest
import torch
from torch.nn.functional import embedding

from regraft.errors import ParameterError
from regraft.tables.embedding import load_table
from regraft.tables.embeddings.auto_srh import AutoSrhEmbedding, groups_of
from regraft.tables.embeddings.deep_light import DeepLightEmbedding
from regraft.tables.embeddings.pep import PepEmbedding
from regraft.tables.embeddings.prune import PruneEmbedding
from toys.stages import steps_of, trained

N, D = 60, 8


def greatest(weight, kept, by=None):
    by = weight.abs() if by is None else by
    edge = by.flatten().sort(descending=True).values[kept - 1]
    return weight * (by >= edge)


def test_prunings_follow_the_schedule_and_what_was_pruned_may_grow_again():
    torch.manual_seed(0)
    table = DeepLightEmbedding(N, D, kept=48, decay=0.15).train()
    table.begin("warm-up", 50)
    table.after_step()
    assert (table.weight != 0).all()
    table.begin("prune", 500)
    ids, wanted = torch.arange(N), torch.randn(N, D)
    seen = []
    for step, _ in enumerate(steps_of(table, lambda: (table(ids) - wanted).square().mean(), 120), start=1):
        zeros = int((table.weight == 0).sum())
        if step % 10 == 0:
            gone = 0.99 ** (step / 0.15)
            assert N * D - zeros == (math.ceil(48 + (N * D - 48) * gone) if gone > 1e-3 else 48)
            assert table.held() == table.words(N, D, kept=N * D - zeros)
            seen.append(zeros)
        elif step > 10:
            assert zeros < seen[-1]  # nothing masks what grows
            served = table.eval()(ids)
            assert torch.equal(served, table.weight * (table.weight.abs() >= table.threshold))
            table.train()
    assert seen == sorted(seen)


def test_at_six_tenths_of_the_stage_it_is_as_small_as_asked():
    table = DeepLightEmbedding(N, D, kept=48)
    table.begin("prune", 1000)
    for step in range(1, 621):
        table.after_step()
        assert (int((table.weight != 0).sum()) == 48) == (step >= 600)
    assert table.held() == PruneEmbedding.words(N, D, kept=48)
    found = table.advance("prune", lambda: 0.0)
    assert torch.equal(found.decompressed(), table.weight)
    assert found.memory().serving_words == 2 * 48 + min(N + 1, 48)


@pytest.mark.parametrize("per", ["value", "row", "column", "table"])
def test_thresholds_take_from_the_size_of_values(per):
    torch.manual_seed(0)
    table = PepEmbedding(N, D, kept=48, per=per, start=-2.0)
    with torch.no_grad():
        table.weight.copy_(torch.randn(N, D))
        table.limits.add_(torch.rand(table.limits.shape))
    ids, upstream = torch.tensor([3, 9, 3]), torch.randn(3, D)
    sizes = torch.sigmoid(table.limits.detach().expand(N, D))
    weight = table.weight.detach()
    wanted = torch.sign(weight) * torch.clamp(weight.abs() - sizes, min=0)
    assert torch.allclose(table(ids), embedding(ids, wanted))
    (table(ids) * upstream).sum().backward()
    passes = (weight.abs() > sizes).float()
    each = torch.zeros(N, D).index_add(0, ids, upstream)
    assert torch.allclose(table.weight.grad, each * passes)
    slope = -each * passes * weight.sign() * sizes * (1 - sizes)
    assert torch.allclose(table.limits.grad, slope.sum_to_size(table.limits.shape), atol=1e-6)
    assert table.moved()[0] is table.limits
    whole = table.export()
    assert torch.allclose(whole.decompressed(), greatest(wanted, 48, weight.abs() - sizes))


def test_what_passes_learns_anew_from_the_first_weights():
    torch.manual_seed(0)
    table, ids = PepEmbedding(N, D, kept=100, seed=3).train(), torch.arange(N)
    first, wanted = table.weight.detach().clone(), torch.randn(N, D) * (torch.rand(N, D) < 0.15)
    table.begin("search", 300)
    before, counts = table.limits.detach().clone(), []
    for _ in steps_of(table, lambda: (table(ids) - wanted).square().sum(), 300):
        counts.append(int((table.served() != 0).sum()))
    assert counts[0] == N * D
    reached = next(step for step, passing in enumerate(counts) if passing <= 100)
    assert all(passing <= 120 for passing in counts[reached:])  # thresholds stand still once that few pass
    assert float(table.limits[wanted != 0].mean()) < float(table.limits[wanted == 0].mean()) - 0.5  # the loss holds what it needs
    assert (table.limits > before).all()
    margins = table.weight.detach().abs() - torch.sigmoid(table.limits.detach())
    found = table.advance("search", lambda: 0.0)
    assert isinstance(found, PruneEmbedding)
    assert torch.equal(found.decompressed(), greatest(first, 100, margins))
    assert found.values.requires_grad


def test_groups_are_of_like_size_and_never_split_a_count():
    torch.manual_seed(0)
    counts = torch.randint(0, 40, (300,))
    group = groups_of(counts, 6)
    assert group[counts.argmax()] == 0
    assert group[counts.argmin()] == 5
    for one in counts.unique():
        assert len(group[counts == one].unique()) == 1
    order = counts.argsort(descending=True)
    assert torch.equal(group[order], group[order].sort().values)
    assert all(35 <= many <= 65 for many in torch.bincount(group).tolist())
    assert torch.equal(groups_of(torch.arange(12), 6), torch.arange(11, -1, -1) // 2)
    assert set(groups_of(torch.ones(12), 6).tolist()) <= set(range(6))


def test_scales_have_a_gradient_without_a_size_and_stay_in_their_range(tmp_path):
    torch.manual_seed(0)
    counts = torch.arange(N, 0, -1)
    table = AutoSrhEmbedding(N, D, counts=counts, kept=90, penalty=0.1, pruned="after").train()
    ids, upstream = torch.tensor([0, 15, 59, 0]), torch.randn(4, D)
    assert torch.equal(table(ids), table.weight[ids])
    table.begin("search", 10)
    ((table(ids) * upstream).sum() * 1e-3 + table.extra_loss()).backward()
    group = groups_of(counts, 6)
    plain = torch.zeros(6, D).index_add(0, group[ids], upstream * table.weight.detach()[ids] * 1e-3) + 0.1
    assert torch.allclose(table.scales.grad, plain / (plain.abs().mean(1, keepdim=True) + 1e-8), rtol=1e-4)
    assert table.architecture()[0] is table.scales
    with torch.no_grad():
        table.scales.copy_(torch.randn(6, D))
    inside = table.scales.detach().clamp(0, 1)
    assert torch.equal(table.eval()(ids), table.weight[ids] * inside[group[ids]])
    table.after_step()
    assert torch.equal(table.scales, inside)
    table.begin("retrain", 10)
    assert table.extra_loss() == 0
    table.save(tmp_path)
    again = load_table(tmp_path)
    assert again.advance("search", lambda: 0.0) is again
    for one in (table, again):
        found = one.advance("retrain", lambda: 0.0)
        assert torch.equal(found.decompressed(), greatest(table.weight.detach() * inside[group], 90))
    first = AutoSrhEmbedding(N, D, counts=counts, kept=90)
    assert first.advance("pretrain", lambda: 0.0) is first
    assert torch.equal(first.advance("search", lambda: 0.0).decompressed(), greatest(first.weight.detach(), 90))
    with pytest.raises(ParameterError, match="3 counts for a table of 60"):
        AutoSrhEmbedding(N, D, counts=counts[:3])


@pytest.mark.parametrize("cls", [DeepLightEmbedding, PepEmbedding, AutoSrhEmbedding], ids=lambda cls: cls.name)
def test_values_that_count_stay(cls):
    torch.manual_seed(0)
    signal, ids = torch.randn(N), torch.randint(0, N // 2, (2000,))
    more = {"counts": torch.bincount(ids, minlength=N)} if cls.counts_rows else {}
    table = trained(cls(N, D, kept=N, **more), ids, lambda ids: signal[ids], steps=60)
    assert isinstance(table, PruneEmbedding)
    assert table.memory().serving_words == 3 * N
    kept = (table.decompressed() != 0).sum(1)
    assert kept[: N // 2].sum() > 0.9 * N  # of ids that were never met hardly one
