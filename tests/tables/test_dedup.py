"""Dedup: copies are found, a budget stops it, the padded block and chains are kept right."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.embeddings.dedup import DedupEmbedding, _mapped, alike


def copies(kinds=5, times=8, block=4, dim=8, noise=0.0):
    torch.manual_seed(0)
    blocks = torch.randn(kinds, block * dim).repeat(times, 1)
    return (blocks + noise * torch.randn_like(blocks)).view(-1, dim)


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_copies_are_held_once(noise):
    table = DedupEmbedding.from_table(copies(noise=noise), 5 / 40 + 40 / 1280 + 1e-6, block=4)
    assert table.blocks == 5
    assert (table.decompressed() - copies(noise=noise)).abs().max() <= (8 * noise if noise else 0)
    assert table.memory().serving_words == 5 * 4 * 8 + 40


def test_it_stops_where_the_budget_is_met():
    assert DedupEmbedding.from_table(copies(), 0.5, block=4).blocks == (1280 // 2 - 40) // 32


def test_where_too_little_is_alike_it_says_so():
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=r"0 of 40 blocks are like another: 1\.03 of the table is left, not 0\.2"):
        table = DedupEmbedding.from_table(torch.randn(160, 8), 0.2, block=4)
    assert table.blocks == 40


def test_similarity_is_the_share_of_coordinates_within_the_tolerance():
    flat = torch.randn(20, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    flat[1, :6] += 0.011  # 14 of 20 are alike
    flat[1, 6:] += 0.0005
    for asked, one_of_them in ((0.7, True), (0.71, False)):
        assert bool((alike(flat, 20, asked, 0.01, 0, 0) >= 0).any()) == one_of_them
    assert bool((alike(flat, 20, 0.71, 0.02, 0, 0) >= 0).any())
    assert not (alike(flat, 20, 0.7, 0.01, 91, 0) >= 0).any()  # more bands than there are


def test_a_padded_block_may_give_way_but_stands_for_none():
    block = torch.rand(4, 8, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.02
    for sign, wanted in ((1, [-1, -1]), (-1, [-1, 0])):  # the padded one is visited first, or last
        flat = sign * torch.cat([block.view(1, -1), torch.cat([block[:2], torch.zeros(2, 8)]).view(1, -1)])
        assert alike(flat, 16, 0.9, 0.01, 0, 0).tolist() == wanted


def test_chains_end_at_the_block_that_is_kept():
    kept, slots = _mapped(torch.tensor([-1, 0, 1, 2, -1]), torch.arange(5), 10)
    assert kept.tolist() == [0, 4]
    assert slots.tolist() == [0, 0, 0, 0, 1]
    kept, slots = _mapped(torch.tensor([-1, 0, 1, 2, -1]), torch.arange(5), 2)
    assert slots.tolist() == [0, 0, 0, 1, 2]


def test_sorted_rows_find_their_like_and_come_back_in_place():
    torch.manual_seed(0)
    weight = torch.randn(10, 8)[torch.randint(0, 10, (200,))]
    table = DedupEmbedding.from_table(weight, 0.3, block=1, sort=True)
    assert torch.equal(table.decompressed(), weight)
    assert table.memory().serving_words == table.blocks * 8 + 400 <= 0.3 * 1600


def test_rows_of_a_block_train_together():
    table = DedupEmbedding.from_table(copies(), 0.25, block=4)
    same = int((table.slots == table.slots[39]).nonzero()[0])
    table(torch.tensor([4 * same, 39 * 4])).sum().backward()
    assert torch.equal(table.weight.grad[int(table.slots[39]) * 4], torch.full((8,), 2.0))


def test_bad_settings():
    with pytest.raises(ParameterError, match="share of coordinates"):
        DedupEmbedding.from_table(copies(), 0.5, block=4, similarity=2.0)
    with pytest.raises(ParameterError, match="floor"):
        DedupEmbedding.from_table(copies(), 0.5)
