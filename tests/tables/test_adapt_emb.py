"""AdaptEmb: who is frequent, and which row each id has."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.embeddings.adapt_emb import AdaptEmbEmbedding
from regraft.tables.frequency import frequent_ids


def test_frequent_ids_are_those_that_reach_the_least_count_within_the_share():
    counts = torch.tensor([5, 0, 9, 5, 1, 5, 0])
    assert frequent_ids(counts, 3).tolist() == [False, False, True, False, False, False, False]  # three of 5 would be one too many
    assert frequent_ids(counts, 4).nonzero().flatten().tolist() == [0, 2, 3, 5]
    assert frequent_ids(counts, 7).nonzero().flatten().tolist() == [0, 2, 3, 4, 5]  # what never occurs is not frequent
    assert not frequent_ids(counts, 0).any()


def test_ties_are_drawn():
    counts = torch.tensor([5, 0, 9, 5, 1, 5, 0])
    drawn = [frequent_ids(counts, 3, seed) for seed in range(20)]
    assert all(one.sum() == 3 and one[2] and counts[one].min() == 5 for one in drawn)
    assert len({tuple(one.tolist()) for one in drawn}) == 3


def test_frequent_ids_are_alone_and_the_others_are_dealt_in_turn():
    counts = torch.zeros(40, dtype=torch.int64)
    counts[[3, 7, 20, 39]] = 10
    table = AdaptEmbEmbedding(40, 4, counts, share=0.25)
    assert table.weight.shape == (10, 4)
    ids = torch.arange(40)
    met = torch.bincount(table.places.long(), minlength=10)
    assert met[:4].tolist() == [1, 1, 1, 1]
    assert met[4:].tolist() == [6] * 6
    others = ids[counts == 0]
    assert table.places[others].tolist() == [4 + k % 6 for k in range(36)]
    assert torch.equal(table(ids[:5]), table.weight[table.places[:5].long()])


def test_the_map_counts():
    assert AdaptEmbEmbedding.words(1000, 16, share=0.2) == 200 * 16 + 1000
    with pytest.raises(ParameterError, match=r"--budget 0\.164"):  # 101 rows and the map
        AdaptEmbEmbedding.from_budget(1000, 16, 0.1, counts=torch.arange(1000))
    assert AdaptEmbEmbedding.from_budget(1000, 16, 0.1, counts=torch.arange(1000), top=0.02).memory().serving_words <= 1600


def test_bad_settings():
    with pytest.raises(ParameterError, match="one for each of the 9"):
        AdaptEmbEmbedding(9, 4, torch.ones(8))
    with pytest.raises(ParameterError, match="top less than 1"):
        AdaptEmbEmbedding(9, 4, torch.ones(9), top=1.0)
    with pytest.raises(ParameterError, match="give counts"):
        AdaptEmbEmbedding.from_budget(9, 4, 0.9)
