"""TT-Rec: rows are the einsum of their cores, full rank is any table, and a lower rank is the truncated SVD where there are two cores."""

import math

import pytest
import torch

from regraft.tables.embeddings.tt_rec import TtRecEmbedding, row_factors, width_factors


@pytest.mark.parametrize("many", [7, 5000])
def test_rows_are_the_product_of_their_cores(many):
    table = TtRecEmbedding(600, 16, rank=5)
    (n0, n1, n2), r = table.n, 5
    ids = torch.randint(0, 600, (many,))
    i0, i1, i2 = ids % n0, ids // n0 % n1, ids // n0 // n1
    assert int(i2.max()) < n2
    a, b, c = (core.detach() for core in table.cores)
    wanted = torch.einsum(
        "map,mpbq,mqc->mabc", a.view(n0, 2, r)[i0], b.view(n1, r, 2, r)[i1], c.view(n2, r, 4)[i2]
    ).reshape(many, 16)  # fmt: skip
    assert torch.allclose(table(ids), wanted, atol=1e-4)


@pytest.mark.parametrize("many", [5, 300])
def test_gradients_are_those_of_finite_differences(many):
    torch.manual_seed(0)
    table = TtRecEmbedding(30, 8, rank=2).double()
    ids = torch.randint(0, 30, (many,))
    names = [name for name, _ in table.named_parameters()]
    call = lambda *cores: torch.func.functional_call(table, dict(zip(names, cores, strict=True)), (ids,)).square().sum()  # noqa: E731
    assert torch.autograd.gradcheck(call, tuple(table.parameters()))


@pytest.mark.parametrize(("rows", "dim"), [(600, 16), (101, 6), (7, 3), (1, 1)])
def test_full_rank_is_any_table(rows, dim):
    torch.manual_seed(0)
    weight = torch.randn(rows, dim)
    table = TtRecEmbedding(rows, dim, rank=rows * dim if rows < 10 else 60)
    with torch.no_grad():
        table.fit(weight)
    assert torch.allclose(table.decompressed(), weight, atol=1e-4)


def test_a_table_of_low_rank_comes_back_within_the_budget_and_more_budget_is_nearer():
    torch.manual_seed(0)
    source = TtRecEmbedding(3000, 16, rank=4).decompressed()
    table = TtRecEmbedding.from_table(source, 0.2)
    assert table.rank >= 4
    assert (table.decompressed() - source).norm() < 1e-4 * source.norm()
    noise = torch.randn(3000, 16)
    errors = [float((TtRecEmbedding.from_table(noise, share).decompressed() - noise).norm()) for share in (0.05, 0.2, 0.5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] - 1


def test_factors():
    assert row_factors(10**6) == (100, 100, 100)
    assert row_factors(27) == (3, 3, 3)
    assert [width_factors(d) for d in (8, 16, 32, 64, 768)] == [(2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (8, 8, 12)]
    for n in range(1, 400):
        assert n <= math.prod(row_factors(n)) <= 2 * n + 8
        assert n <= math.prod(width_factors(n)) <= 1.5 * n + 2


def test_cores_start_away_from_zero():
    table = TtRecEmbedding(1000, 16, rank=4)
    sigma = (1 / math.sqrt(1000 / 3)) ** (1 / 3)
    for core in table.cores:
        assert core.abs().min() >= 2 * sigma * (1 - 1e-6)
        assert core.abs().max() < 8 * sigma
        assert 0.2 < (core > 0).float().mean() < 0.8
