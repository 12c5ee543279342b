"""The card's properties of one table for all features."""

import pytest
import torch
from torch.nn.functional import embedding, embedding_bag

from regraft.errors import ParameterError
from regraft.tables.embeddings.compo import CompoEmbedding
from regraft.tables.embeddings.robe import RobeEmbedding
from regraft.tables.embeddings.unified import UnifiedEmbedding
from regraft.tables.fields import FieldTables
from regraft.tables.unified import Feature, UnifiedTable
from regraft.tables.unified.features import split_rows
from regraft.tables.unified.salted import Salted

USER, ITEM = Feature("user", 50, chunks=2), Feature("item", 30)


class InTurn:
    """A hash without a collision."""

    def __init__(self, start, rows):
        self.start, self.rows = start, rows

    def __call__(self, ids):
        return ids + self.start


def batch(n=20):
    return {"user": torch.randint(0, 50, (n,)), "item": torch.randint(0, 30, (n,))}


def test_without_a_collision_it_is_the_tables_of_each_feature():
    table = UnifiedTable([Feature("user", 50), ITEM], 80, 4)
    table.hashes = {("user", 0): (0, InTurn(0, 80)), ("item", 0): (0, InTurn(50, 80))}
    given, weight = batch(), table.tables[0].weight
    own = {"user": weight[:50].detach().clone().requires_grad_(), "item": weight[50:].detach().clone().requires_grad_()}
    found, wanted = table(given), {name: embedding(given[name], own[name]) for name in given}
    assert all(torch.equal(found[name], wanted[name]) for name in given)
    sum((one.square().sum() for one in found.values()), start=torch.zeros(())).backward()
    sum((one.square().sum() for one in wanted.values()), start=torch.zeros(())).backward()
    assert torch.allclose(weight.grad, torch.cat([own["user"].grad, own["item"].grad]))


def test_the_first_columns_are_those_of_one_chunk():
    torch.manual_seed(0)
    wide = UnifiedTable([Feature("user", chunks=12)], 40, 4)
    narrow = UnifiedTable([Feature("user")], 40, 4)
    narrow.load_state_dict(wide.state_dict())
    ids = {"user": torch.tensor([5, -7, 2**63 - 1])}
    assert wide(ids)["user"].shape == (3, 48)
    assert torch.equal(wide(ids)["user"][:, :4], narrow(ids)["user"])
    tenth = wide.tables[0].weight[Salted.of("user", 10, 40)(ids["user"])]
    assert torch.equal(wide(ids)["user"][:, 40:44], tenth)  # by number: chunk 10 is the eleventh


def test_the_order_of_declaration_makes_no_difference():
    one, other = UnifiedTable([USER, ITEM], 40, 4), UnifiedTable([ITEM, USER, Feature("more")], 40, 4)
    other.load_state_dict(one.state_dict())
    given = batch()
    found = other(given | {"more": given["user"]})
    assert all(torch.equal(value, found[name]) for name, value in one(given).items())
    assert one.concatenated(given).shape == (20, 12)


def test_gradients_of_features_on_one_row_add_up_sparse_or_not():
    given = {"a": torch.tensor([3, 3]), "b": torch.tensor([3, 4])}
    for sparse in (False, True):
        table = UnifiedTable([Feature("a"), Feature("b")], 1, 2, sparse=sparse)
        found = table(given)
        (2 * found["a"].sum() + 5 * found["b"].sum()).backward()
        gradient = table.tables[0].weight.grad
        assert gradient.is_sparse == sparse
        assert torch.equal(gradient.to_dense() if sparse else gradient, torch.full((1, 2), 14.0))


def test_padding_is_zero_and_learns_nothing():
    table = UnifiedTable([Feature("a", padding=-1), Feature("s", padding="")], 9, 3)
    found = table({"a": torch.tensor([-1, -1]), "s": ["", ""]})
    assert not any(one.any() for one in found.values())
    sum(one.sum() for one in found.values()).backward()
    assert not table.tables[0].weight.grad.any()


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_bags_are_pooled_chunk_by_chunk(pooling):
    table = UnifiedTable([Feature("genre", chunks=2, pooling=pooling, padding=3)], 11, 4)
    ids, offsets = torch.tensor([5, 3, 7, 9, 9]), torch.tensor([0, 3, 3])
    found = table({"genre": (ids, offsets)})["genre"]
    for chunk in range(2):
        rows = table.tables[0].weight[table.places("genre", chunk, torch.arange(10))[1]]
        wanted = embedding_bag(ids, rows, offsets, mode=pooling, padding_idx=3)
        assert torch.allclose(found[:, 4 * chunk : 4 * chunk + 4], wanted, atol=1e-7)


def test_several_physical_tables_take_look_ups_in_turn():
    table = UnifiedTable([USER, ITEM, Feature("zip", chunks=2)], 40, 4, tables=2)
    assert [where for where, _ in table.hashes.values()] == [0, 1, 0, 1, 0]
    assert [tuple(one.weight.shape) for one in table.tables] == [(20, 4), (20, 4)]
    given = batch() | {"zip": [str(i) for i in range(20)]}
    where, places = table.places("user", 1, given["user"])
    assert torch.equal(table(given)["user"][:, 4:], table.tables[where].weight[places])


def test_small_features_have_exact_tables_and_means_are_narrow():
    table = UnifiedTable([Feature("hour", 24, chunks=2), Feature("user", 50, chunks=2, join="mean")], 10, 4, exact_below=24)
    given = {"hour": torch.tensor([23, 0]), "user": torch.tensor([1, 2])}
    assert torch.equal(table(given)["hour"], table.own[0].weight[[23, 0]])
    assert table(given)["user"].shape == (2, 4)
    assert dict(table.memory().serving) == {"shared rows": 40, "exact tables": 24 * 8}
    with pytest.raises(ParameterError, match="hour: values outside 0 to 23"):
        table(given | {"hour": torch.tensor([24, 0])})


@pytest.mark.parametrize("store", [lambda r, d: CompoEmbedding(r, d, remainders=9), lambda r, d: RobeEmbedding(r, d, share=0.2)])
def test_other_methods_are_shared_by_all_features(store):
    table = UnifiedTable([USER, ITEM], 80, 4, store=store)
    given = batch()
    whole = table.tables[0].decompressed()
    assert torch.allclose(table(given)["item"], whole[table.places("item", 0, given["item"])[1]])
    assert table.memory().serving_words == table.tables[0].memory().serving_words
    table.concatenated(given).sum().backward()
    assert all(one.grad is not None for one in table.parameters())


def test_budgets():
    table = UnifiedTable.from_budget([Feature("a", 7), Feature("b")], 4, "1KB", tables=3, exact_below=10)
    assert table.memory().serving_bytes <= 1000 < table.memory().serving_bytes + 3 * 4 * 4
    assert UnifiedTable.from_budget([USER, ITEM], 4, 0.1).memory().serving_words == (50 * 8 + 30 * 4) // 40 * 4
    with pytest.raises(ParameterError, match="size of every feature"):
        UnifiedTable.from_budget([Feature("a")], 4, 0.5)
    with pytest.raises(ParameterError, match="no room"):
        UnifiedTable.from_budget([Feature("a")], 4, "10B")


@pytest.mark.parametrize(("sizes", "rows"), [([884, 4082, 7, 2, 75], 505), ([1, 1, 1000], 3), ([5, 5], 100), ([3, 3, 3], 4)])
def test_rows_are_dealt_in_proportion(sizes, rows):
    dealt = split_rows(sizes, rows)
    assert sum(dealt) == min(rows, sum(sizes))
    assert all(1 <= one <= size for one, size in zip(dealt, sizes, strict=True))
    assert all(abs(one - size * rows / sum(sizes)) <= 2 for one, size in zip(dealt, sizes, strict=True) if rows < sum(sizes))


def test_bad_input():
    table = UnifiedTable([USER, ITEM], 40, 4)
    for given, said in [({"user": torch.tensor([1])}, "differ in item"), (batch() | {"item": torch.tensor([0.5])}, "whole numbers")]:
        with pytest.raises(ParameterError, match=said):
            table(given)
    for features, rows, said in [([], 4, "at least one"), ([USER, USER], 4, "name of its own"), ([USER], 5, "divide")]:
        with pytest.raises(ParameterError, match=said):
            UnifiedTable(features, rows, 4, tables=2)


def test_fields_are_salted_by_name():
    fields = FieldTables([50, 30], 8, UnifiedEmbedding, 0.5, names=["user", "item"], chunks=2)
    table = UnifiedTable([Feature("item", chunks=2), USER], 80, 4)
    with torch.no_grad():
        table.tables[0].weight.copy_(fields.tables[0].weight)
    given = batch()
    found = fields(torch.stack([given["user"], given["item"]], 1))
    assert torch.equal(found[:, 0], table(given)["user"])
    assert torch.equal(found[:, 1], table(given)["item"])
    with pytest.raises(ParameterError, match="all different"):
        UnifiedEmbedding(80, 8, fields=[50, 30], names=["a", "a"])
