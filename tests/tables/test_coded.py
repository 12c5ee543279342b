"""Product codes (MGQE, DPQ): packing, the choice, its gradients, and every row coded as it serves."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.codes.bitmap import Bitmap, ones
from regraft.tables.codes.learned import Codebooks, bits_of, parts_of
from regraft.tables.codes.packing import pack, packed_bytes, unpack_rows
from regraft.tables.embeddings.dpq import DpqEmbedding
from regraft.tables.embeddings.mgqe import MgqeEmbedding


@pytest.mark.parametrize(("parts", "bits"), [(4, 6), (8, 5), (3, 8), (1, 1), (2, 11)])
def test_packed_codes_come_back(parts, bits):
    codes = torch.randint(0, 2**bits, (57, parts))
    stored = pack(codes, bits)
    assert stored.shape == (packed_bytes(57 * parts, bits),)
    assert stored.dtype == torch.uint8
    ids = torch.tensor([56, 0, 7, 7])
    assert torch.equal(unpack_rows(stored, ids, parts, bits), codes[ids])


def test_sizes_of_codes():
    assert [bits_of(k) for k in (2, 3, 32, 33, 256)] == [1, 2, 5, 6, 8]
    assert [parts_of(16, p) for p in (1, 3, 4, 15, 99)] == [1, 2, 4, 8, 16]
    with pytest.raises(ParameterError, match="parts=0"):
        parts_of(16, 0)


def test_scores_are_distances_before_they_are_normalized():
    torch.manual_seed(0)
    books = Codebooks(8, 2, 5, 1.0).train()
    query = torch.randn(40, 8)
    raw = -(query.view(40, 2, 1, 4) - books.keys).square().sum(3)
    wanted = (raw - raw.mean(0)) / (raw.var(0, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(books.scores(query), wanted, atol=1e-4)


def mgqe(n=300, **settings):
    torch.manual_seed(0)
    counts = torch.randperm(n)
    return counts, MgqeEmbedding(n, 8, counts, centroids=16, few=4, **settings)


def test_only_frequent_ids_choose_among_all():
    counts, table = mgqe(top=0.2)
    ids = torch.arange(300)
    frequent, rank = table._standing(ids)
    assert torch.equal(frequent, counts >= 240)
    assert torch.equal(rank[frequent], torch.arange(60))
    assert torch.equal(rank[~frequent], torch.arange(240))
    codes = table._nearest(table.query, frequent)
    assert codes[~frequent].max() < 4 <= codes[frequent].max()
    assert torch.allclose(table(ids), torch.cat([table.books.keys[j, codes[:, j]] for j in range(4)], 1), atol=1e-6)


def test_gradients_go_to_rows_and_the_loss_to_centroids():
    _, table = mgqe(weight=2.0)
    ids, upstream = torch.tensor([5, 9, 5]), torch.randn(3, 8)
    out = table(ids)
    (out * upstream).sum().backward(retain_graph=True)
    wanted = torch.zeros(300, 8).index_add(0, ids, upstream)
    assert torch.allclose(table.query.grad, wanted)
    assert table.books.keys.grad is None or not table.books.keys.grad.any()
    table.query.grad = None
    table.extra_loss().backward()
    assert table.query.grad is None
    assert table.books.keys.grad.any()
    assert table.extra_loss().item() == pytest.approx(2 * float((out - table.query[ids]).detach().square().mean()))


@pytest.mark.parametrize("make", [lambda: mgqe()[1], lambda: DpqEmbedding(300, 8), lambda: DpqEmbedding(300, 8, form="softmax")])
def test_export_codes_every_row_with_running_statistics(make):
    torch.manual_seed(0)
    table = make().train()
    for _ in range(5):
        table(torch.randint(0, 20, (64,)))  # ids from 20 on are never seen
    served = table.export()
    assert table.training
    assert "query" not in served.state_dict()
    ids = torch.arange(300)
    assert torch.equal(served(ids), table.eval()(ids))
    assert served.memory().serving_words == table.memory().serving_words < table.memory().training_words
    assert served.export() is served
    assert len(served.decompressed().unique(dim=0)) > 20


def test_softmax_is_one_hot_forward_and_soft_backward():
    torch.manual_seed(0)
    table = DpqEmbedding(30, 8, parts=2, centroids=6, form="softmax").train()
    ids, upstream = torch.arange(10), torch.randn(10, 8)
    out = table(ids)
    soft = table.books.scores(table.query[ids]).softmax(2)
    assert torch.equal(out.view(10, 2, 4)[:, 0], table.values[0, soft[:, 0].argmax(1)])
    (out * upstream).sum().backward()
    wanted = torch.autograd.grad((torch.einsum("mpk,pkw->mpw", soft, table.values.detach()).flatten(1) * upstream).sum(), table.query)[0]
    assert torch.allclose(table.query.grad, wanted, atol=1e-5)
    assert table.extra_loss() == 0.0


def test_memory_by_the_card():
    words = MgqeEmbedding.words(1000, 16)
    assert words == 256 * 16 + 2 * 32 + (100 * 4 + 2 + 900 * 3 + 2) / 4  # two bytes to spare at the end of each
    assert DpqEmbedding.words(1000, 16) == 32 * 16 + (1000 * 5 + 2) / 4


def test_a_set_of_ids_as_bits():
    chosen = torch.rand(101) < 0.3
    held = Bitmap(101)
    held.fill(chosen)
    inside, before = held(torch.arange(101))
    assert torch.equal(inside, chosen)
    assert torch.equal(before, chosen.long().cumsum(0) - chosen.long())
    assert Bitmap.words(101) == 8 == sum(one.numel() for one in held.buffers())


def test_bits_are_counted():
    words = torch.randint(0, 2**32, (500,))
    assert ones(words).tolist() == [int(one).bit_count() for one in words]
    assert ones(torch.tensor([0, 2**32 - 1])).tolist() == [0, 32]


def test_bad_settings():
    with pytest.raises(ParameterError, match="few up to 16"):
        MgqeEmbedding(9, 4, torch.ones(9), centroids=16)
    with pytest.raises(ParameterError, match="one for each of 9"):
        MgqeEmbedding(9, 4, torch.ones(8))
