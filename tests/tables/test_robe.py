"""ROBE: its places and signs are those of whole numbers in Python, and an injective map makes it a plain table."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.embeddings.robe import PRIME, RobeEmbedding


def by_hand(table, i):
    """Row i by Python's whole numbers."""
    (B, C, D), (b, c, d) = table.places, table.turns
    z, size = table.block or table.embedding_dim, table.weight.numel()
    row = []
    for j in range(table.embedding_dim):
        if table.compat == "paper":
            at = ((B * i + C * (j // z) + D) % PRIME + j % z) % size
        else:
            at = (B * i + C * (j // z) + D + j % z) % PRIME % size
        sign = (1, -1)[(b * i + c * j + d) % PRIME % 2] if table.signs else 1
        row.append(sign * table.weight[at].item())
    return row


@pytest.mark.parametrize("compat", ["paper", "released"])
@pytest.mark.parametrize("block", [None, 1, 4])
def test_rows_are_those_of_whole_numbers(block, compat):
    table = RobeEmbedding(PRIME - 1, 8, share=97 / (PRIME - 1) / 8 + 1e-12, block=block, compat=compat, seed=3)
    assert table.weight.numel() == 97
    ids = [0, 1, 2001, 2**31 - 2**27, PRIME - 2]
    for row, i in zip(table(torch.tensor(ids)).tolist(), ids, strict=True):
        assert row == pytest.approx(by_hand(table, i))


def test_signs_are_even():
    signs = RobeEmbedding(100_000, 16)._signs(torch.arange(100_000)).float()
    assert signs.mean(0).abs().max() < 0.02
    assert set(signs.unique().tolist()) == {-1.0, 1.0}


def test_an_injective_map_is_a_plain_table():
    table = RobeEmbedding(50, 8, signs=False)
    table.places = (8, 8, 0)
    ids = torch.randint(0, 50, (20,))
    assert torch.equal(table(ids), table.weight.view(50, 8)[ids])
    table(ids).sum().backward()
    assert torch.equal(table.weight.grad.view(50, 8)[:, 0], torch.bincount(ids, minlength=50).float())


def test_gradients_of_places_that_meet_add_up():
    table = RobeEmbedding(500, 4, share=0.05, block=2, seed=1).double()
    assert torch.autograd.gradcheck(lambda w: torch.func.functional_call(table, {"weight": w}, (torch.arange(40),)), table.weight)


def test_many_ids_are_read_in_blocks():
    table = RobeEmbedding(200_000, 4, share=0.01)
    ids = torch.randint(0, 200_000, (150_000,))
    with torch.no_grad():
        assert torch.equal(table(ids)[::1000], table(ids[::1000]))
    assert torch.equal(table(ids[:40_000]), table.decompressed()[ids[:40_000]])


def test_bad_settings():
    with pytest.raises(ParameterError, match="does not divide"):
        RobeEmbedding(10, 16, block=3)
    with pytest.raises(ParameterError, match="fewer than"):
        RobeEmbedding(PRIME, 1, share=1e-9)
    with pytest.raises(ParameterError, match="share"):
        RobeEmbedding(10, 16, share=1.5)
