import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from regraft.graft import hull
from regraft.graft.hull import NEAR, membership


def by_least_squares(row, table):
    """Whether weights >= 0 that sum to 1 give the row."""
    return nnls(np.vstack([table.T, np.ones(len(table))]), np.append(row, 1.0))[1] < 1e-9


@pytest.fixture
def table():
    return torch.randn(60, 8, generator=torch.Generator().manual_seed(0))


def test_agrees_with_non_negative_least_squares(table):
    draw = torch.Generator().manual_seed(1)
    mixed = torch.softmax(torch.randn(40, 60, generator=draw), dim=1) @ table
    rows = torch.cat([mixed, 0.6 * torch.randn(60, 8, generator=draw)])
    truth = np.array([by_least_squares(row, table.numpy()) for row in rows.double().numpy()])
    found = membership(rows, table, steps=2000)
    assert 0 < truth[40:].sum() < 60  # both kinds among the rows drawn at random
    assert not (found.outside & truth).any()
    assert found.near[:40].all()
    assert (found.outside | truth | (found.distance < 3 * NEAR)).all()  # only rows at the border may stay undecided


def test_a_proof_holds_for_every_direction(table):
    rows = torch.stack([3 * table[0], table.mean(0), table[5]])
    found = membership(rows, table)
    assert found.outside.tolist() == [True, False, False]
    assert found.near.tolist() == [False, True, True]
    assert found.distance[1] < 1e-6


def test_distance_is_an_upper_bound():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = membership(torch.tensor([[2.0, 0.5], [0.3, 0.6]]), square, steps=500)
    assert found.outside.tolist() == [True, False]
    assert found.distance[0] * np.hypot(2, 0.5) >= 1.0 - 1e-6
    assert found.near.tolist() == [False, True]


def test_a_bias_takes_a_row_out(table):
    """A copy of an old row with a larger output bias beats it in every state; one with a smaller bias in none."""
    lifted = torch.cat([table, torch.full((60, 1), -5.0)], dim=1)
    rows = torch.cat([table[:3], torch.tensor([[-5.0], [0.0], [-9.0]])], dim=1)
    assert membership(rows, lifted, bias=True).outside.tolist() == [False, True, False]
    states = torch.cat([torch.randn(500, 8, generator=torch.Generator().manual_seed(4)), torch.ones(500, 1)], dim=1)
    wins = (states @ rows.T) > (states @ lifted.T).amax(dim=1, keepdim=True) + 1e-5
    assert wins.any(dim=0).tolist() == [False, True, False]


def test_blocks_of_the_table_change_nothing(table, monkeypatch):
    rows = torch.randn(30, 8, generator=torch.Generator().manual_seed(3))
    whole = membership(rows, table)
    monkeypatch.setattr(hull, "TABLE_BLOCK", 7)
    monkeypatch.setattr(hull, "BLOCK", 4)
    parts = membership(rows, table.double())
    assert parts.outside.tolist() == whole.outside.tolist()
    np.testing.assert_allclose(parts.distance, whole.distance, atol=1e-5)


def test_no_rows(table):
    assert membership(table[:0], table).outside.shape == (0,)
