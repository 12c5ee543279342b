"""OptEmbed: the step and its gradient, sampled widths, what the evolution may do, and a compact table that is the masked one."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.embedding import load_table
from regraft.tables.embeddings.opt_embed import OptEmbedEmbedding, Thresholds
from regraft.tables.fields import FieldTables
from regraft.tables.search.evolution import Evolution, crossed, mutated
from regraft.tables.search.surrogate import unit_step
from regraft.tables.widths.blocks import Blocks
from toys.stages import steps_of, trained

FIELDS, D = (50, 30, 4), 8
BRIEF = Evolution(generations=3, keep=2, mutations=4, crossings=3)


def table(**settings):
    torch.manual_seed(0)
    return OptEmbedEmbedding(sum(FIELDS), D, **{"fields": FIELDS, "evolution": BRIEF, "seed": 5} | settings)


def test_the_step_and_its_gradient():
    z = torch.tensor([-1.2, -0.7, -0.2, 0, 0.2, 0.7, 1.2], requires_grad=True)
    found = unit_step(z)
    assert found.tolist() == [0, 0, 0, 0, 1, 1, 1]
    found.sum().backward()
    assert torch.allclose(z.grad, torch.tensor([0, 0.4, 1.2, 2, 1.2, 0.4, 0]))


def test_widths_are_drawn_for_each_sample_and_field():
    supernet = table(thresholds=Thresholds(alpha=0.0)).train()
    ids = torch.tensor([3, 60, 80]).repeat(4000, 1)
    rows = supernet(ids)
    widths = (rows != 0).sum(2)
    prefix = torch.arange(D) < widths.unsqueeze(2)
    assert torch.equal(rows, supernet.weight[ids] * prefix)
    for field in range(3):
        shares = torch.bincount(widths[:, field], minlength=D + 1)[1:] / 4000
        assert (shares - 1 / D).abs().max() < 0.025  # width 1 and width d too
    assert abs(float(torch.corrcoef(widths.T.float())[0, 1])) < 0.06


def test_without_thresholds_the_supernet_is_the_plain_table_in_evaluation():
    supernet = table().eval()
    ids = torch.tensor([[0, 55], [83, 17]])
    assert torch.equal(supernet(ids), supernet.weight[ids])


@pytest.mark.parametrize("per", ["field", "value"])
def test_thresholds_get_their_gradients_and_plain_steps(per):
    supernet = table(search="rows", thresholds=Thresholds(per=per, alpha=0.3, rate=0.5)).train()
    with torch.no_grad():
        supernet.weight.mul_(torch.rand(sum(FIELDS), 1) * 3)
        supernet.limits.add_(torch.rand(supernet.limits.shape))
    before, ids, upstream = supernet.limits.detach().clone(), torch.tensor([3, 55, 81, 4]), torch.randn(4, D)
    ((supernet(ids) * upstream).sum() + supernet.extra_loss()).backward()
    mine = ids if per == "value" else torch.tensor([0, 1, 2, 0])
    z = supernet.weight.detach()[ids].abs().sum(1) - before[mine]
    size = z.abs()
    slope = torch.where(size <= 0.4, 2 - 4 * size, torch.where(size <= 1, 0.4, 0.0)) * (upstream * supernet.weight.detach()[ids]).sum(1)
    wanted = (-0.3 * torch.exp(-before)).index_add(0, mine, -slope)
    assert torch.allclose(supernet.limits.grad, wanted, atol=1e-5)
    grad = (z > 0).float().unsqueeze(1) * upstream + slope.unsqueeze(1) * supernet.weight.detach()[ids].sign()
    assert torch.allclose(supernet.weight.grad[ids], grad, atol=1e-5)
    supernet.after_step()
    assert torch.allclose(supernet.limits, before - 0.5 * wanted, atol=1e-6)
    assert supernet.limits.grad is None
    assert supernet.moved()[0] is supernet.limits


def test_evolution_finds_more_than_as_many_random_candidates_and_never_touches_parents():
    goal = torch.tensor([3, 1, 16, 7, 9, 2, 12, 5])
    for seed in range(5):
        seen = []

        def score(candidate, seen=seen):
            seen.append((candidate, -float((torch.tensor(candidate) - goal).abs().sum())))
            return seen[-1][1], float(sum(candidate))

        found = Evolution(generations=20, keep=5).search(score, 8, 16, torch.Generator().manual_seed(seed))
        assert list(found.history) == sorted(found.history)
        assert found.scored == len(seen) == len({one for one, _ in seen})
        assert all(quality == -float((torch.tensor(one) - goal).abs().sum()) for one, quality in seen)
        assert found.quality == max(quality for _, quality in seen) == dict(seen)[found.candidate]
        drawn = torch.randint(1, 17, (len(seen), 8), generator=torch.Generator().manual_seed(seed))
        assert found.quality > float(-(drawn - goal).abs().sum(1).min())
        assert {min(one) for one, _ in seen} >= {1}


def test_children_come_from_their_parents():
    generator = torch.Generator().manual_seed(0)
    first, second = (1,) * 6, (9,) * 6
    cuts = {crossed(first, second, generator).count(1) for _ in range(200)}
    assert cuts == {1, 2, 3, 4, 5}
    drawn = torch.tensor([mutated(first, 4, 0.5, generator) for _ in range(2000)])
    assert (drawn != 1).float().mean() == pytest.approx(0.5 * 0.75, abs=0.02)
    assert drawn.unique().tolist() == [1, 2, 3, 4]
    assert torch.equal(torch.tensor(mutated(second, 16, 0.0, generator)), torch.tensor(second))


def test_of_those_nearly_as_good_the_smallest():
    def score(candidate):
        return min(candidate[0], 4) / 100, candidate[0]

    best = Evolution(generations=20).search(score, 1, 16, torch.Generator().manual_seed(0))
    near = Evolution(generations=20, slack=0.011).search(score, 1, 16, torch.Generator().manual_seed(0))
    assert (best.candidate, near.candidate) == ((4,), (3,))


def masked(weight, stays, widths):
    field = torch.repeat_interleave(torch.arange(3), torch.tensor(FIELDS))
    return weight * stays.unsqueeze(1) * (torch.arange(D) < torch.tensor(widths)[field].unsqueeze(1))


@pytest.mark.parametrize("shared", [False, True])
def test_blocks_are_the_masked_table_bit_for_bit(shared):
    torch.manual_seed(0)
    weight, stays, widths = torch.randn(84, D), torch.rand(84) < 0.6, (3, 8, 1)
    rows = [int(part.sum()) for part in stays.split(FIELDS)]
    blocks = Blocks(FIELDS, D, [(own + shared, width) for own, width in zip(rows, widths, strict=True)], shared=shared)
    blocks.fill(stays, weight)
    wanted = masked(weight, stays, widths)
    if shared:
        for start, size, width in zip((0, 50, 80), FIELDS, widths, strict=True):
            mean = weight[start : start + size][~stays[start : start + size]].mean(0) * (torch.arange(D) < width)
            wanted[start : start + size][~stays[start : start + size]] = mean
    assert torch.equal(blocks.rows(torch.arange(84)), wanted)
    held = sum((own + shared) * width for own, width in zip(rows, widths, strict=True))
    assert sum(blocks.memory().values()) == held + 2 * 3 + 3 == Blocks.words(84, blocks.blocks)
    with pytest.raises(ParameterError, match="blocks"):
        Blocks(FIELDS, D, [(51 + shared, 2), (3, 2), (2, 2)], shared=shared)


def test_the_search_scores_masks_that_fit_and_the_last_stage_starts_from_the_first_weights():
    supernet = table(share=0.3, thresholds=Thresholds(alpha=0.0)).eval()
    first, ids = supernet.weight.detach().clone(), torch.arange(84)
    room = int(0.3 * 84 * D) - 2 * 3 - 3
    with torch.no_grad():
        supernet.weight.mul_(torch.rand(84, 1) * 2)
        supernet.limits.copy_(torch.tensor([0.3, 0.5, 40.0]))  # nothing of the third field passes
        supernet.met[:] = True
        supernet.met[7] = False
    seen = []

    def quality():
        rows = supernet(ids)
        norms = supernet.weight.abs().sum(1)
        stays = rows.ne(0).any(1)
        widths = [int((part != 0).sum(1).max()) for part in rows.split(FIELDS)]
        assert torch.equal(rows, masked(supernet.weight, stays, widths))
        assert not stays[7]
        assert stays[80:].sum() == 1
        assert not (stays[:50] & (norms[:50] <= 0.3)).any()
        assert sum(int(part.sum()) * width for part, width in zip(stays.split(FIELDS), widths, strict=True)) <= room
        seen.append((stays, widths, float(torch.rand(1))))
        return seen[-1][2]

    found = supernet.advance("supernet", quality)
    stays, widths, _ = max(seen, key=lambda one: one[2])
    assert torch.equal(found(ids), masked(first, stays, widths))
    assert found.found.scored == len(seen) > 9
    assert [width for _, width in found.blocks] == widths
    assert found.memory().serving_words <= 0.3 * 84 * D
    assert found.advance("retrain", quality) is found
    assert found.export() is found


def test_what_is_weak_goes_and_what_counts_stays():
    torch.manual_seed(0)
    signal = torch.randn(50)
    ids = torch.stack([torch.randint(0, 50, (1500,)), torch.randint(50, 80, (1500,)), torch.randint(80, 84, (1500,))], 1)
    supernet = table(thresholds=Thresholds(alpha=0.05, rate=0.5))
    end = trained(supernet, ids, lambda ids: 2 * signal[ids[:, 0]], steps=80)  # only the first field tells
    kept = [part.float().mean() for part in end.kept.having(torch.arange(84))[0].split(FIELDS)]
    assert kept[0] > 0.6
    assert kept[0] > kept[1] + 0.2
    assert end.memory().serving_words < 0.7 * 84 * D
    assert sum(rows * width for rows, width in end.blocks) == end.kept.values.numel()


@pytest.mark.parametrize("search", ["rows", "widths", "both"])
@pytest.mark.parametrize("dropped", ["zero", "shared"])
def test_fields_within_a_budget(search, dropped):
    torch.manual_seed(0)
    tables = FieldTables(FIELDS, D, OptEmbedEmbedding, 0.25, search=search, dropped=dropped, evolution=BRIEF)
    ids = torch.stack([torch.randint(0, size, (64,)) for size in FIELDS], 1)
    (tables(ids).sum() + tables.extra_loss()).backward()
    tables.advance("supernet", lambda: float(torch.rand(1)))
    assert tables.memory().serving_words <= 0.25 * sum(FIELDS) * D
    assert tables(ids).shape == (64, 3, D)
    ((blocks),) = (tables.compressed[0].blocks,)
    assert all(width == blocks[0][1] for _, width in blocks) or search != "rows"
    with pytest.raises(ParameterError, match=r"opt-embed: .* the least is"):
        FieldTables(FIELDS, D, OptEmbedEmbedding, 0.01)


def test_a_supernet_goes_on_from_its_files(tmp_path):
    ids, wanted = torch.arange(84), torch.randn(84, D) * 0.1
    supernet = table(thresholds=Thresholds(alpha=0.01, rate=0.1)).train()
    list(steps_of(supernet, lambda: (supernet(ids[:60]) - wanted[:60]).square().mean(), 3))
    supernet.save(tmp_path)
    again = load_table(tmp_path)
    ends = [one.advance("supernet", lambda one=one: float(one.eval()(ids).sum())) for one in (supernet, again)]
    assert torch.equal(ends[0].decompressed(), ends[1].decompressed())
    assert ends[0].blocks == ends[1].blocks
    assert not ends[0].kept.having(ids)[0][60:80].any()  # what was never met has no row, but for one a field
