"""Methods that take a table as it is: packed codes, closed forms, the best factors, unbiased rounding, sparse formats, groups by norm."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import ParameterError
from regraft.tables.codes.packing import pack, packed_bytes, unpack
from regraft.tables.codes.product import bits_within
from regraft.tables.embeddings.int_rows import Int8Embedding, Int16Embedding
from regraft.tables.embeddings.magnitude_pq import MagnitudePqEmbedding
from regraft.tables.embeddings.magnitude_svd import MagnitudeSvdEmbedding
from regraft.tables.embeddings.pq import PqEmbedding
from regraft.tables.embeddings.prune import PruneEmbedding
from regraft.tables.embeddings.svd import SvdEmbedding
from regraft.tables.magnitude import equal_norm_sizes


@pytest.fixture
def weight():
    return torch.randn(400, 12, generator=torch.Generator().manual_seed(0))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 16), st.lists(st.integers(0, 65535), min_size=1, max_size=50))
def test_packed_codes_come_back(bits, numbers):
    codes = torch.tensor(numbers) % (1 << bits)
    packed = pack(codes, bits)
    assert len(packed) == packed_bytes(len(codes), bits) == -(-len(codes) * bits // 8) + 2
    assert torch.equal(unpack(packed, torch.arange(len(codes)), bits), codes)


def test_product_quantization_is_faiss_and_takes_the_nearest_centroid(weight):
    faiss = pytest.importorskip("faiss")
    table = PqEmbedding.from_table(weight, 0.5, parts=3, bits=4, seed=6)
    theirs = faiss.ProductQuantizer(12, 3, 4)
    theirs.cp.seed, theirs.cp.min_points_per_centroid = 7, 1
    theirs.train(weight.numpy())
    assert np.allclose(table.decompressed().detach(), theirs.decode(theirs.compute_codes(weight.numpy())), atol=1e-6)
    nearest = torch.cdist(weight[:, :4], table.coded.centroids[:, :4]).argmin(1)
    assert torch.equal(table.coded.centroids[nearest, :4], table.decompressed()[:, :4])


def test_parts_that_do_not_divide_the_columns(weight):
    table = PqEmbedding(400, 12, parts=5, bits=9)
    table.fit(weight)
    assert table.coded.widths == [3, 3, 2, 2, 2]
    assert torch.allclose(table.decompressed(), weight)  # 512 centroids for 400 rows: each is its own


def test_bits_leave_half_of_the_budget_to_the_codes():
    assert bits_within(2 * 256 * 64, [10_000], 64, [8]) == (8,)
    assert bits_within(2 * 256 * 64 - 1, [10_000], 64, [8]) == (7,)
    assert bits_within(2 * 48 * 64, [1000, 9000], 64, [9, 8]) == (5, 4)
    assert bits_within(1, [10_000], 64, [8]) == (1,)


def test_svd_has_numpys_error(weight):
    table = SvdEmbedding.from_table(weight, 0.5)
    assert table.rank == int(0.5 * 400 * 12 / 412)
    left, values, right = np.linalg.svd(weight.numpy(), full_matrices=False)
    best = (left[:, : table.rank] * values[: table.rank]) @ right[: table.rank]
    assert np.allclose(table.decompressed(), best, atol=1e-5)


def test_svd_of_full_rank_is_the_table(weight):
    assert torch.allclose(SvdEmbedding.from_table(weight, 1.0, rank=12).decompressed(), weight, atol=1e-5)


def test_a_single_group_is_the_plain_method(weight):
    one = MagnitudeSvdEmbedding.from_table(weight, 1.0, groups=1, scale=5 * 400**0.3 + 1e-6).decompressed()
    assert torch.allclose(one, SvdEmbedding.from_table(weight, 0.5, rank=5).decompressed(), atol=1e-5)


def test_groups_have_equal_norm():
    norms = torch.tensor([1.0, 4.0, 1.0, 1.0, 1.0, 4.0, 4.0])
    assert equal_norm_sizes(norms, 2) == (2, 5)
    assert equal_norm_sizes(torch.tensor([100.0, 1.0, 1.0]), 3) == (1, 1, 1)
    assert equal_norm_sizes(torch.zeros(5), 2) == (3, 2)


@pytest.mark.parametrize("cls", [MagnitudePqEmbedding, MagnitudeSvdEmbedding])
def test_long_rows_lose_less(weight, cls):
    rows = weight / weight.norm(dim=1, keepdim=True)
    long = torch.randperm(400, generator=torch.Generator().manual_seed(1))[:40]
    rows[long] *= 9.05
    table = cls.from_table(rows, 0.6, groups=2)
    lost = (table.decompressed() - rows).norm(dim=1) / rows.norm(dim=1)
    short = torch.ones(400, dtype=torch.bool).index_fill(0, long, False)
    assert table.sizes == (40, 360)
    assert lost[long].mean() < lost[short].mean()
    with pytest.raises(ParameterError, match="groups=0 is not accepted"):
        cls.from_table(weight, 0.5, groups=0)
    with pytest.raises(ParameterError, match="add up"):
        cls(400, 12, sizes=(300, 50))


@pytest.mark.parametrize(("cls", "most"), [(Int8Embedding, 127), (Int16Embedding, 32767)])
def test_whole_numbers_are_half_a_step_off_at_most(weight, cls, most):
    table = cls.from_table(weight, 0.9)
    step = weight.abs().amax(1, keepdim=True) / most
    assert table.scales == "row"
    assert ((table.decompressed() - weight).abs() <= step / 2 * 1.01).all()
    tight = cls.from_table(weight, cls.bits / 32 + 1e-3)
    assert tight.scales == "table"
    assert tight.memory().serving_words == 400 * 12 * cls.bits / 32 + 1


def test_stochastic_rounding_is_unbiased():
    weight = torch.full((20_000, 4), 0.3)
    weight[0] = 127
    table = Int8Embedding.from_table(weight, 0.3, scales="table", rounding="stochastic").decompressed()[1:]
    assert float(table.mean()) == pytest.approx(0.3, abs=0.01)
    assert set(table.unique().tolist()) == {0.0, 1.0}
    assert float(Int8Embedding.from_table(weight, 0.3, scales="table").decompressed()[1:].abs().max()) == 0


@pytest.mark.parametrize(("budget", "by_rows"), [(0.5, True), (0.1, False)])
def test_pruning_keeps_the_largest_in_a_sparse_format(weight, budget, by_rows):
    table = PruneEmbedding.from_table(weight, budget)
    words = 0.5 * 4800 if by_rows else 0.1 * 4800
    kept = int((words - 401) // 2) if by_rows else int(words // 3)
    assert (table.by_rows, table.kept) == (by_rows, kept)
    least = weight.abs().flatten().sort(descending=True).values[kept - 1]
    assert torch.equal(table.decompressed(), torch.where(weight.abs() >= least, weight, 0))
    ids = torch.tensor([399, 0, 399, 17])
    assert torch.equal(table(ids), table.decompressed()[ids])
