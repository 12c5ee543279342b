"""DHE: hashes of whole numbers, codes in their range, a network whose closed form is what it holds."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.embeddings.dhe import DheEmbedding, _primes


def test_hashes_are_those_of_whole_numbers():
    table = DheEmbedding(2**31, 4, width=3, hashes=8)
    ids = [0, 1, 2001, 10**6, 2**31 - 1, 2**41]
    a, b, p = table.a.tolist(), table.b.tolist(), table.p.tolist()
    assert table.hashed(torch.tensor(ids)).tolist() == [[(a[j] * i + b[j]) % p[j] % 10**6 for j in range(8)] for i in ids]
    assert min(p) >= 10**6
    assert all(all(one % k for k in range(2, 1500)) for one in p)


def test_primes():
    assert _primes(10, 30).tolist() == [11, 13, 17, 19, 23, 29]


def test_codes():
    ids = torch.arange(1000)
    uniform = DheEmbedding(1000, 4, width=3, hashes=256).encoded(ids)
    assert uniform.abs().max() <= 1
    assert abs(float(uniform.mean())) < 0.02
    assert float(uniform.var()) == pytest.approx(1 / 3, rel=0.03)
    normal = DheEmbedding(1000, 4, width=3, hashes=256, codes="gaussian").encoded(ids)
    assert abs(float(normal.mean())) < 0.02
    assert float(normal.var()) == pytest.approx(1, rel=0.03)
    assert float((normal.abs() < 1).float().mean()) == pytest.approx(0.683, abs=0.01)
    with pytest.raises(ParameterError, match="even"):
        DheEmbedding(10, 4, hashes=3, codes="gaussian")


def test_a_row_depends_on_its_id_alone_and_the_seed_on_the_field():
    torch.manual_seed(0)
    table = DheEmbedding(1000, 4, width=8, hashes=16).eval()
    assert torch.allclose(table(torch.tensor([7, 900]))[0], table(torch.tensor([7]))[0], atol=1e-6)
    other = DheEmbedding(1000, 4, width=8, hashes=16, seed=1)
    assert (table.hashed(torch.arange(100)) == other.hashed(torch.arange(100))).float().mean() < 0.01


def test_memory_does_not_depend_on_rows():
    assert DheEmbedding.words(10**9, 16, width=10, hashes=64) == 65 * 10 + 4 * 10 * 11 + 100 + 11 * 16
    table = DheEmbedding(9, 16, width=10, hashes=64)
    assert table.memory().serving_words == DheEmbedding.words(9, 16, width=10, hashes=64)
    assert table.memory().training_words == table.memory().serving_words + 100


def test_a_batch_of_one_trains_by_running_statistics():
    table = DheEmbedding(50, 4, width=8, hashes=16, activation="relu")
    table.norms[0].running_mean.fill_(0.1)
    one = table(torch.tensor([3]))
    one.sum().backward()
    assert torch.allclose(one, table.eval()(torch.tensor([3])))
