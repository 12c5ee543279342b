"""What every compressed table keeps: PyTorch's calls, its closed form of memory, the budget, its files, and one line for bad input."""

import pytest
import torch
from torch.nn.functional import embedding, embedding_bag

from regraft.errors import InputError, ParameterError
from regraft.method import members
from regraft.tables.embedding import load_table
from regraft.tables.embeddings.compo import CompoEmbedding
from regraft.tables.embeddings.hash import HashEmbedding
from regraft.tables.fields import FieldTables
from regraft.tables.memory import parse_budget
from toys.stages import steps_of, trained

N, D, ASKED = 600, 16, 0.4
ABOVE = {"int16": 0.6}  # whose floor is above what is asked
METHODS = members("table")
COUNTS = torch.arange(N, 0, -1)
BOUNDS = {"opt-embed", "auto-dim"}  # whose closed form is the most that they take, until it is found what they need
BRIEF = {"generations": 2, "keep": 1, "mutations": 3, "crossings": 2}
SMALL = {
    "opt-embed": {"evolution": BRIEF},
    "mgqe": {"centroids": 64, "few": 16},
    "dhe": {"hashes": 64},
    "dedup": {"block": 4},
}  # what a table of this size asks for


def asked(cls):
    return ABOVE.get(cls.name, ASKED)


def made(cls, budget=None, **settings):
    torch.manual_seed(0)
    settings = SMALL.get(cls.name, {}) | settings
    return cls.from_budget(N, D, budget or asked(cls), counts=COUNTS if cls.counts_rows else None, **settings)


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
class TestEach:
    def test_the_budget_is_kept_and_the_closed_form_is_what_is_held(self, cls):
        table = made(cls)
        words = table.export().memory().serving_words
        assert words <= asked(cls) * N * D + 1e-6
        settings = {k: v for k, v in table.config().items() if k not in ("num_embeddings", "embedding_dim", "mode", "padding_idx")}
        assert words <= cls.words(N, D, **settings) if cls.name in BOUNDS else words == pytest.approx(cls.words(N, D, **settings))
        served = table.export()
        settings = {k: v for k, v in served.config().items() if k not in ("num_embeddings", "embedding_dim", "mode", "padding_idx")}
        assert words == pytest.approx(type(served).words(N, D, **settings))

    def test_rows_are_those_of_the_decompressed_table(self, cls):
        table = made(cls).eval()
        whole, ids = table.decompressed(), torch.tensor([[5, 0, 599], [5, 5, 17]])
        assert whole.shape == (N, D)
        assert torch.allclose(table(ids), embedding(ids, whole), atol=1e-6)

    @pytest.mark.parametrize("mode", ["sum", "mean", "max"])
    def test_bags_are_those_of_pytorch(self, cls, mode):
        table = made(cls, mode=mode, padding_idx=3).eval()
        whole, ids, offsets = table.decompressed(), torch.tensor([5, 3, 17, 3, 9, 9]), torch.tensor([0, 3, 4, 4])
        assert torch.allclose(table(ids, offsets), embedding_bag(ids, whole, offsets, mode=mode, padding_idx=3), atol=1e-6)
        pairs = ids.view(3, 2)
        assert torch.allclose(table(pairs), embedding_bag(pairs, whole, mode=mode, padding_idx=3), atol=1e-6)

    def test_it_comes_back_from_its_files(self, cls, tmp_path):
        table = made(cls).eval().export()
        table.save(tmp_path)
        again = load_table(tmp_path)
        assert not again.training
        assert not again(torch.tensor([3])).requires_grad or list(again.parameters())  # rows without parameters ask for no gradients
        assert torch.equal(again.decompressed(), table.decompressed())
        assert not list(tmp_path.glob("*.pt"))

    def test_ids_that_are_none(self, cls):
        table = made(cls)
        for bad, said in ((torch.tensor([N]), "outside"), (torch.tensor([-1]), "outside"), (torch.tensor([0.5]), "whole numbers")):
            with pytest.raises(ParameterError, match=said):
                table(bad)

    def test_below_the_floor_the_least_is_named(self, cls):
        with pytest.raises(ParameterError, match=r"the least is .* \(--budget"):
            made(cls, budget=1e-4)

    def test_it_stands_for_a_table_that_is_there(self, cls, tmp_path):
        if not cls.learns_from:
            with pytest.raises(ParameterError, match="learns with a model"):
                cls.from_table(torch.zeros(N, D), asked(cls))
            return
        weight = torch.randn(N, D, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -1.5, N)[torch.randperm(N)].unsqueeze(1)
        budget = asked(cls)
        if cls.name == "dedup":
            budget = 0.6
            weight[300:] = weight[:300]  # it needs blocks that are alike
        table = cls.from_table(weight, budget, **SMALL.get(cls.name, {}))
        whole = table.decompressed()
        assert table.memory().serving_words <= budget * N * D + 1e-6
        assert (whole - weight).square().sum() < 0.8 * weight.square().sum()
        assert torch.allclose(table(torch.tensor([7, 599, 7])), whole[[7, 599, 7]], atol=1e-6)
        table.save(tmp_path)
        assert torch.equal(load_table(tmp_path).decompressed(), whole)
        with pytest.raises(ParameterError, match="row 3 of the table holds NaN"):
            cls.from_table(weight.clone().index_fill(0, torch.tensor([3]), torch.nan), asked(cls))
        with pytest.raises(ParameterError, match="shape"):
            cls.from_table(weight[0], asked(cls))

    def test_it_learns(self, cls):
        table = made(cls).train()
        if not table(torch.tensor([0])).requires_grad:
            pytest.skip("nothing of it is trained")
        torch.manual_seed(1)
        ids, wanted = torch.arange(64), torch.randn(64, D) * 0.1
        before = float((table(ids) - wanted).square().mean().detach())
        list(steps_of(table, lambda: (table(ids) - wanted).square().mean(), 60))
        assert float((table(ids) - wanted).square().mean().detach()) < 0.9 * before

    def test_stages_end_in_what_is_exported(self, cls, tmp_path):
        torch.manual_seed(2)
        signs = torch.randn(N)
        table = trained(made(cls), torch.randint(0, N // 2, (256,)), lambda ids: signs[ids])
        seen = table.eval().decompressed()
        served = table.export().eval()
        assert torch.allclose(served.decompressed(), seen, atol=1e-6)
        assert served.memory().serving_words <= asked(cls) * N * D + 1e-6
        served.save(tmp_path)
        again = load_table(tmp_path)
        assert torch.equal(again.eval().decompressed(), served.decompressed())
        assert again.memory() == served.memory()


def test_a_whole_hash_is_a_plain_table():
    table = HashEmbedding(N, D, share=1.0)
    ids = torch.randint(0, N, (50,))
    assert torch.equal(table(ids), embedding(ids, table.weight))


def test_each_id_has_a_pair_of_its_own():
    table = CompoEmbedding(101, 4, remainders=7)
    ids = torch.arange(101)
    assert len({(int(i) // 7, int(i) % 7) for i in ids}) == 101
    assert torch.allclose(table(ids), table.quotient[ids // 7] * table.remainder[ids % 7])


def test_products_start_with_the_variance_of_a_plain_table():
    torch.manual_seed(0)
    plain = (1 / 10_000) / 3
    assert CompoEmbedding(10_000, 64, remainders=100, start="match-variance").decompressed().var() == pytest.approx(plain, rel=0.1)


@pytest.mark.parametrize("layout", ["per-field", "fused"])
def test_fields_within_one_budget(layout):
    sizes = [884, 4082, 7, 2, 75]
    tables = FieldTables(sizes, D, CompoEmbedding, 0.2, layout=layout)
    assert tables.memory().serving_words <= 0.2 * sum(sizes) * D
    ids = torch.tensor([[883, 4081, 6, 1, 74], [0, 0, 0, 0, 0]])
    assert tables(ids).shape == (2, 5, D)
    plain = [isinstance(table, torch.nn.Embedding) for table in tables.tables]
    assert plain == ([False, False, True, True, False] if layout == "per-field" else [False])


def test_fields_take_only_their_own_ids():
    tables = FieldTables([5, 3], D, HashEmbedding, 0.5)
    with pytest.raises(ParameterError, match="outside the table's 0 to 2"):
        tables(torch.tensor([[4, 3]]))
    with pytest.raises(ParameterError, match="2 fields"):
        tables(torch.tensor([[4]]))


@pytest.mark.parametrize(("written", "words"), [(0.1, 100), ("10%", 100), ("2KB", 500), ("1KiB", 256), (1, 1000)])
def test_budgets(written, words):
    assert parse_budget(written, 1000) == pytest.approx(words)


@pytest.mark.parametrize("written", [0, "0%", 1.1, "101%", "1GB", "-1", "much", "10 %%"])
def test_budgets_that_are_none(written):
    with pytest.raises(ParameterError, match="--budget"):
        parse_budget(written, 1000)


def test_damaged_files(tmp_path):
    with pytest.raises(InputError, match="not a compressed table"):
        load_table(tmp_path)
    made(HashEmbedding).save(tmp_path)
    whole = (tmp_path / "table.safetensors").read_bytes()
    (tmp_path / "table.safetensors").write_bytes(whole[:-40])
    with pytest.raises(InputError, match="damaged"):
        load_table(tmp_path)
    (tmp_path / "table.safetensors").write_bytes(whole)
    (tmp_path / "table.json").write_text((tmp_path / "table.json").read_text().replace('"hash"', '"hush"'))
    with pytest.raises(InputError, match="damaged"):
        load_table(tmp_path)
