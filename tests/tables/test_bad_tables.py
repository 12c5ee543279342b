"""What users may hand to a table that is none of its ids, fields that are next to nothing, and files that something happened to."""

import json

import pytest
import torch

from regraft.errors import InputError, ParameterError
from regraft.tables.embedding import load_table
from regraft.tables.embeddings.hash import HashEmbedding
from regraft.tables.embeddings.prune import PruneEmbedding
from regraft.tables.fields import FieldTables
from tables.test_contract import ABOVE, METHODS, SMALL, D, N, made

METHOD = pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)


@METHOD
def test_ids_of_every_kind(cls):
    table = made(cls).eval()
    ids = [3, 599]
    for kind in (torch.int16, torch.int32, torch.int64):
        assert torch.equal(table(torch.tensor(ids, dtype=kind)), table(torch.tensor(ids)))
    assert table(torch.zeros(0, dtype=torch.int64)).shape == (0, D)
    assert table(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, D)
    table.train()(torch.zeros(0, dtype=torch.int64))
    assert torch.as_tensor(table.extra_loss()).isfinite()
    for far in (2**31, 2**40, 2**63 - 1, -(2**40), 2**32 + 3):
        with pytest.raises(ParameterError, match=f"id {far} is outside"):
            table(torch.tensor([3, far]))
    for none in (["a", "b"], "a", None, 3, torch.tensor([True]), torch.tensor([1j])):
        with pytest.raises(ParameterError, match="whole numbers"):
            table(none)


@METHOD
def test_fields_of_one_value(cls):
    torch.manual_seed(0)
    sizes, budget = [1, N, 1], ABOVE.get(cls.name, 0.45)
    counts = [torch.arange(size, 0, -1) for size in sizes] if cls.counts_rows else None
    tables = FieldTables(sizes, D, cls, budget, counts=counts, **SMALL.get(cls.name, {})).train()
    rows = tables(torch.tensor([[0, 5, 0], [0, 599, 0]]))
    assert rows.shape == (2, 3, D)
    assert rows.isfinite().all()
    tables.export()
    assert tables.memory().serving_words <= budget * sum(sizes) * D
    with pytest.raises(ParameterError, match="ids of shape"):
        tables(torch.tensor([[0, 5]]))


@pytest.mark.parametrize("bad", [0, -1])
def test_tables_of_nothing(bad):
    for rows, dim in ((bad, D), (N, bad)):
        with pytest.raises(ParameterError, match="at least 1"):
            HashEmbedding.from_budget(rows, dim, 0.5)
        with pytest.raises(ParameterError, match="at least 1"):
            FieldTables([3, rows], dim, HashEmbedding, 0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about | {"schema": 99},
        lambda about: about | {"settings": about["settings"] | {"kept": 3}},
        lambda about: about | {"settings": about["settings"] | {"num_embeddings": -2}},
        lambda about: about | {"settings": []},
        lambda about: {},
        lambda about: [about],
    ],
)
def test_a_folder_that_something_happened_to(tmp_path, change):
    made(PruneEmbedding).save(tmp_path)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError):
        load_table(tmp_path)


def test_a_folder_without_its_arrays(tmp_path):
    made(HashEmbedding).save(tmp_path)
    (tmp_path / "table.safetensors").unlink()
    with pytest.raises(InputError, match="damaged"):
        load_table(tmp_path)
    (tmp_path / "table.json").write_bytes(b"\xff\xfe no text")
    with pytest.raises(InputError, match="damaged"):
        load_table(tmp_path)
