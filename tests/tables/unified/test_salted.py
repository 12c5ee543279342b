"""The hashes: those of Python's whole numbers for every int64, even over rows, and of names, not of places."""

import pytest
import torch

from regraft.tables.unified.salted import MIX, PRIME, Salted, numbers_of


def by_hand(hashed, x):
    x %= 2**64
    linear = sum(a * digit for a, digit in zip(hashed.factors, (x & PRIME, x >> 31 & PRIME, x >> 62), strict=True)) + hashed.more
    h = linear % PRIME
    h = ((h ^ (h >> 16)) * MIX) & PRIME
    return (h ^ (h >> 16)) % hashed.rows


@pytest.mark.parametrize("hashed", [Salted.of("user", 0, 1000), Salted((PRIME - 1,) * 3, PRIME - 1, 2**31 - 5)])
def test_the_same_in_tensors_and_whole_numbers(hashed):
    ids = [0, 1, -1, 2001, PRIME, PRIME - 1, 2**31, 2**62 - 1, 2**62, 2**63 - 1, -(2**63)]
    assert hashed(torch.tensor(ids)).tolist() == [by_hand(hashed, x) for x in ids]
    small = [0, 1, PRIME - 1, PRIME]
    assert hashed.small(torch.tensor(small)).tolist() == [by_hand(hashed, x) for x in small]


@pytest.mark.parametrize("name", ["user", "item", "7"])
def test_rows_are_met_evenly(name):
    """Chi-square of 10^5 ids in a row over 1,000 rows: mean 999, sd 45."""
    counts = torch.bincount(Salted.of(name, 0, 1000)(torch.arange(100_000)), minlength=1000).double()
    assert 800 < float(((counts - 100) ** 2 / 100).sum()) < 1200


def test_the_mix_is_one_to_one():
    h = torch.arange(0, 2**31, 4099)
    assert len(Salted.mixed(h).unique()) == len(h)
    assert int(Salted.mixed(h).max()) < 2**31


def test_names_chunks_and_seeds_are_told_apart():
    ids = torch.arange(1000)
    drawn = [Salted.of(name, chunk, 10**6, seed)(ids) for name, chunk, seed in [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1)]]
    for place, one in enumerate(drawn):
        assert all((one == other).sum() < 10 for other in drawn[:place])
    assert Salted.of("a", 11, 9) != Salted.of("a1", 1, 9)


def test_strings():
    numbers = numbers_of(["a", "b", "a", "é"])
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 3
