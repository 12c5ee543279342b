"""Provenance: what an output says about its making, and the way back to the source."""

import dataclasses
import functools
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regraft import __version__, provenance
from regraft.checkpoint import Checkpoint, write
from toys.checkpoints import grown, load, refusal, save_models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    return root


@pytest.fixture
def source(models, tmp_path):
    """A sharded Llama with files of a tokenizer."""
    load(models / "llama").save_pretrained(tmp_path / "source", max_shard_size="7KB")
    (tmp_path / "source" / "tokenizer.json").write_text('{"old": true}')
    (tmp_path / "source" / "vocab.txt").write_text("old")
    return tmp_path / "source"


def adapt(source, out, **fields):
    """What a verb does: new rows, another tokenizer, a record."""
    checkpoint = Checkpoint.open(source)
    details = {"method": "zip-tie", "parameters": {"norm": "none"}, "seed": 3, "corpus": {"sha256": "ab"}, "timings": {"graft": 0.5}}
    record = provenance.record(checkpoint, "adapt", **(details | fields))
    files = {"tokenizer.json": b"{}", "vocab.txt": None}
    write(checkpoint, out, tensors=grown(checkpoint)[0], files=files, record=functools.partial(provenance.save, record))
    return out


def tree(directory):
    return {p.relative_to(directory).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.rglob("*") if p.is_file()}


def test_the_record_says_what_was_done(source, tmp_path):
    out = adapt(source, tmp_path / "out", metrics={"bits_per_byte": np.float32(2.5), "rows": np.arange(2), "where": tmp_path})
    record = provenance.read(out)
    assert record["schema"] == provenance.SCHEMA
    assert record["verb"] == "adapt"
    assert record["source"] == {"path": str(source), "id": None, "revision": None, "hash": Checkpoint.open(source).source_hash()}
    assert record["method"] == {"name": "zip-tie", "parameters": {"norm": "none"}}
    assert (record["seed"], record["corpus"], record["timings"]) == (3, {"sha256": "ab"}, {"graft": 0.5})
    assert record["metrics"] == {"bits_per_byte": 2.5, "rows": [0, 1], "where": str(tmp_path)}
    assert record["versions"]["regraft"] == __version__
    assert record["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert record["versions"]["python"] == sys.version.split()[0]
    assert {"transformers", "tokenizers"} <= record["versions"].keys()


def test_it_lists_every_changed_file_with_its_hash(source, tmp_path):
    out = adapt(source, tmp_path / "out")
    old, new = tree(source), tree(out)
    changed = {name: digest for name, digest in new.items() if old.get(name) != digest and name != provenance.FILE}
    assert provenance.read(out)["files"] == changed
    assert "tokenizer.json" in changed


def test_undo_restores_the_source_byte_for_byte(source, tmp_path):
    out = adapt(source, tmp_path / "out")
    before = tree(source)
    report = provenance.undo(out)
    assert (report.directory, report.source) == (out, source)
    assert tree(out) == before == tree(source)
    assert not (out / "tokenizer.json").samefile(source / "tokenizer.json")
    assert report.files_linked == len(Checkpoint.open(source).shards)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_undo_restores_weights_that_training_changed(source, tmp_path):
    out = adapt(source, tmp_path / "out")
    model = load(out)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    record = (out / provenance.FILE).read_text()
    before = tree(source)
    shutil.rmtree(out)
    model.save_pretrained(out)
    (out / provenance.FILE).write_text(record)
    provenance.undo(out)
    assert tree(out) == before == tree(source)


def test_undo_into_another_directory(source, tmp_path):
    out = adapt(source, tmp_path / "out")
    adapted = tree(out)
    provenance.undo(out, tmp_path / "restored", link=False)
    assert tree(tmp_path / "restored") == tree(source)
    assert tree(out) == adapted
    assert not any((tmp_path / "restored" / path).samefile(source / path) for path in tree(source))
    assert "not empty" in refusal(provenance.undo, out, tmp_path / "restored")
    assert "the input itself" in refusal(provenance.undo, out, source, overwrite=True)
    assert "inside the input" in refusal(provenance.undo, out, out / "sub")


def test_undoing_twice_steps_goes_one_step_at_a_time(source, tmp_path):
    """An adaptation of an adaptation: undoing the second gives the first, whose own record is kept, so that it can be undone too."""
    first = adapt(source, tmp_path / "first")
    second = adapt(first, tmp_path / "second")
    original, middle = tree(source), tree(first)
    provenance.undo(second)
    assert tree(second) == middle
    provenance.undo(second)
    assert tree(second) == original


def test_why_it_cannot_be_undone(source, tmp_path):
    out = adapt(source, tmp_path / "out")
    before = tree(out)
    assert "not made by regraft" in refusal(provenance.undo, source)
    assert "no such directory" in refusal(provenance.undo, tmp_path / "nothing")
    shard = next(iter(Checkpoint.open(source).shards.values())).path
    kept, tensors = shard.read_bytes(), load_file(shard)
    shard.unlink()
    assert "gone or damaged" in refusal(provenance.undo, out)
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name] + 1}, shard, metadata={"format": "pt"})
    assert "has changed since" in refusal(provenance.undo, out)
    shard.write_bytes(kept)
    source.rename(tmp_path / "moved")
    assert "gone or damaged" in refusal(provenance.undo, out)
    assert tree(out) == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"source": 3}', '{"source": {"hash": 3}}', "\udcff"])
def test_a_damaged_record_is_one_line(tmp_path, text):
    (tmp_path / provenance.FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert "cannot be read as provenance" in refusal(provenance.read, tmp_path)
    (tmp_path / provenance.FILE).write_text(json.dumps({"schema": 99, "source": {"hash": ""}}))
    assert "schema 99" in refusal(provenance.read, tmp_path)


def test_values_of_records(tmp_path):
    @dataclasses.dataclass
    class Point:
        x: float

    provenance.save({"point": Point(1.5), "path": Path("a")}, tmp_path)
    assert json.loads((tmp_path / provenance.FILE).read_text()) == {"point": {"x": 1.5}, "path": "a", "files": {}}
    with pytest.raises(TypeError, match="set does not belong"):
        provenance.save({"bad": {1}}, tmp_path)
