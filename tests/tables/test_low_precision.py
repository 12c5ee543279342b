"""INT8, INT16 and ALPT in training: rows are whole numbers throughout, rounding is right on average, steps learn by their formula."""

import math
import warnings

import pytest
import torch

from regraft.tables.codes.row_steps import RowSteps, rounded
from regraft.tables.embedding import load_table
from regraft.tables.embeddings.alpt import AlptEmbedding, LearnedStep, NoSecondPass
from regraft.tables.embeddings.int_rows import Int8Embedding, Int16Embedding
from toys.stages import steps_of


def test_rounding_is_right_on_average_and_one_of_the_two_beside():
    values = torch.tensor([0.3, -0.3, 2.0, 126.9, 400.0, -400.0])
    many = torch.stack([rounded(values, 127, torch.Generator().manual_seed(seed)) for seed in range(4000)])
    assert torch.allclose(many[:, :3].mean(0), values[:3], atol=0.03)
    assert (many[:, 3:].mean(0) - torch.tensor([126.9, 127, -127])).abs().max() < 0.03
    assert many[:, 1].unique().tolist() == [-1, 0]
    assert rounded(values, 127, None).tolist() == [0, 0, 2, 127, 127, -127]


@pytest.mark.parametrize(("kind", "theirs"), [("sgd", torch.optim.SGD), ("adam", torch.optim.SparseAdam)])
def test_rows_step_as_those_of_pytorch(kind, theirs):
    torch.manual_seed(0)
    start, wanted = torch.randn(20, 4), torch.randn(20, 4)
    plain = torch.nn.Embedding(20, 4, sparse=True, _weight=start.clone())
    optimizer, steps, mine = theirs(plain.parameters(), lr=0.05), RowSteps(kind, 0.05, 20, 4), start.clone()
    for _ in range(8):
        ids = torch.randint(0, 20, (6,)).unique()
        optimizer.zero_grad()
        (plain(ids) - wanted[ids]).square().sum().backward()
        optimizer.step()
        mine[ids] = steps.moved(ids, mine[ids], 2 * (mine[ids] - wanted[ids]))
    assert torch.allclose(mine, plain.weight, atol=1e-5)


def test_adagrad_keeps_one_sum_a_row():
    steps = RowSteps("adagrad", 0.1, 5, 2)
    gradient = torch.tensor([[3.0, 1.0]])
    moved = steps.moved(torch.tensor([4]), torch.zeros(1, 2), gradient)
    assert torch.allclose(moved, -0.1 * gradient / math.sqrt(5))
    assert steps.total.flatten().tolist() == [0, 0, 0, 0, 5]


def one_step(table, ids, upstream):
    (table(ids) * upstream).sum().backward()
    table.after_step()


def test_a_step_moves_rows_of_the_batch_alone_and_adds_up_what_ids_get():
    table = Int16Embedding(30, 3, optimizer="sgd", rate=0.5).train()
    assert not list(table.parameters())
    before, ids, upstream = table.decompressed(), torch.tensor([4, 9, 4]), torch.randn(3, 3)
    table(ids)  # looked at, and never gone back through
    one_step(table, ids, upstream)
    wanted = before - 0.5 * torch.zeros(30, 3).index_add(0, ids, upstream)
    assert table.codes.dtype == torch.int16
    assert (table.decompressed() - wanted).abs().max() <= table.steps.item() * 1.01
    others = [i for i in range(30) if i not in (4, 9)]
    assert torch.equal(table.decompressed()[others], before[others])


def test_gradients_go_through_bags_and_several_look_ups():
    table = Int16Embedding(10, 2, optimizer="sgd", rate=0.1, mode="sum", padding_idx=0).train()
    before = table.decompressed()
    (table(torch.tensor([[3, 0], [3, 5]])).sum() + table(torch.tensor([[5, 5]])).sum()).backward()
    table.after_step()
    moved = (before - table.decompressed())[:, 0]
    assert torch.allclose(moved[[1, 3, 5]], torch.tensor([0.0, 0.2, 0.3]), atol=1e-4)
    assert table.decompressed()[0].abs().max() == 0


def test_rounding_to_the_nearest_stalls_where_stochastic_rounding_learns():
    errors = {}
    for rounding in ("nearest", "stochastic"):
        torch.manual_seed(0)
        table = Int8Embedding(50, 4, optimizer="sgd", rate=0.05, rounding=rounding, step=0.1).train()
        ids, wanted = torch.arange(50), torch.full((50, 4), 0.3)
        for _ in range(300):
            one_step(table, ids, (table(ids) - wanted).detach() * 0.5)
        errors[rounding] = float((table.decompressed() - wanted).square().mean().sqrt())
    assert errors["stochastic"] < 0.12 < 0.15 < errors["nearest"]


def test_a_scale_a_row_follows_its_largest_value():
    table = Int8Embedding(20, 4, scales="row", optimizer="sgd", rate=1.0).train()
    one_step(table, torch.tensor([3]), torch.tensor([[-8.0, 1.0, 0.0, 0.0]]))
    assert table.codes[3, 0] == 127
    assert table.decompressed()[3, 0] == pytest.approx(8, abs=0.3)


@pytest.mark.parametrize(
    "make", [lambda: Int8Embedding(40, 4), lambda: AlptEmbedding(40, 4), lambda: Int8Embedding(40, 4, optimizer="adagrad")]
)
def test_a_training_goes_on_from_its_files(make, tmp_path):
    torch.manual_seed(0)
    table, wanted, ids = make().train(), torch.randn(40, 4), torch.arange(40)
    list(steps_of(table, lambda: (table(ids) - wanted).square().mean(), 5))
    table.save(tmp_path)
    again = load_table(tmp_path).train()
    for one in (table, again):
        list(steps_of(one, lambda one=one: (one(ids) - wanted).square().mean(), 5))
    assert torch.equal(table.codes, again.codes)
    assert torch.equal(table.steps, again.steps)
    served = table.export()
    assert set(served.state_dict()) == {"codes", "steps"}
    assert torch.equal(served.decompressed(), table.decompressed())
    assert served.export() is served
    assert table.memory().training_words == table.memory().serving_words < 40 * 4


def test_steps_have_the_gradient_of_the_formula():
    rows = torch.tensor([[0.034, -0.071, 2.0, -9.0], [0.01, 0.015, 0.0, 0.004]])
    steps = torch.tensor([[0.01], [0.02]], requires_grad=True)
    upstream = torch.randn(2, 4)
    out = LearnedStep.apply(rows, steps, 127, 0.25)
    assert torch.allclose(out, torch.tensor([[0.03, -0.07, 1.27, -1.27], [0.02, 0.02, 0.0, 0.0]]))
    (out * upstream).sum().backward()
    slope = torch.tensor([[3 - 3.4, -7 + 7.1, 127, -127], [1 - 0.5, 1 - 0.75, 0, -0.2]])
    assert torch.allclose(steps.grad, 0.25 * (slope * upstream).sum(1, keepdim=True), atol=1e-4)


def test_the_second_pass_reads_moved_rows_and_moves_steps_alone():
    torch.manual_seed(0)
    table = AlptEmbedding(30, 4, optimizer="sgd", rate=0.3, step_rate=0.5).train()
    ids, first, second = torch.tensor([7, 2, 7]), torch.randn(3, 4), torch.randn(3, 4)
    before = table.decompressed()
    one_step(table, ids, first)
    moved = before - 0.3 * torch.zeros(30, 4).index_add(0, ids, first)
    assert torch.equal(table.steps, torch.full((30, 1), 0.01))
    assert table.again()
    rows = table(ids)
    x = moved[ids] / 0.01
    assert torch.allclose(rows, 0.01 * x.round().clamp(-127, 127), atol=1e-5)
    (rows * second).sum().backward()
    table.after_step()
    slope = torch.where(x.abs() < 127, x.round() - x, 127 * x.sign()) * second
    wanted = torch.full((30, 1), 0.01).index_add(0, ids, -0.5 * slope.sum(1, keepdim=True) / math.sqrt(3 * 4 * 127)).clamp(min=1e-8)
    assert torch.allclose(table.steps, wanted, atol=1e-5)
    assert not table.again()
    assert ((table.decompressed()[[2]] - moved[[2]]).abs() <= table.steps[2] * 1.01).all() or table.codes[2].abs().max() == 127


def test_who_makes_no_second_pass_is_told_or_does_without():
    ids, upstream = torch.tensor([1, 2]), torch.ones(2, 4)
    table = AlptEmbedding(10, 4).train()
    one_step(table, ids, upstream)
    with pytest.warns(NoSecondPass, match="second=False"):
        one_step(table, ids, upstream)
    alone = AlptEmbedding(10, 4, second=False, step_rate=1e-3).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_step(alone, ids, upstream)
        assert not alone.again()
        one_step(alone, ids, upstream)
    assert (alone.steps[ids] != 0.01).all()


def test_steps_that_learn_beat_a_bad_scale():
    errors = {}
    for cls, settings in ((Int8Embedding, {}), (AlptEmbedding, {"step_rate": 2e-3})):
        torch.manual_seed(0)
        table, ids, wanted = cls(60, 8, step=0.1, rate=0.01, **settings).train(), torch.arange(60), torch.randn(60, 8) * 0.2
        list(steps_of(table, lambda table=table, ids=ids, wanted=wanted: (table(ids) - wanted).square().sum(), 150))
        errors[cls.name] = float((table.decompressed() - wanted).square().mean().sqrt())
    assert errors["alpt"] < 0.7 * errors["int8"]


def test_the_models_rate_is_taken_where_none_was_told():
    told, own = Int8Embedding(10, 4, rate=0.5), Int8Embedding(10, 4)
    for table in (told, own):
        table.set_rate(0.02)
    assert (told.moments.rate, own.moments.rate) == (0.5, 0.02)
