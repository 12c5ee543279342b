"""Safetensors files: damage is one clear line, and nothing is accepted that the reference library refuses."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from regraft.checkpoint import Checkpoint
from regraft.checkpoint.shards import read_shard
from regraft.errors import CheckpointError
from toys.checkpoints import V, edit_header, edit_json, load, refusal, save_models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    return root


@pytest.fixture
def llama(models, tmp_path):
    """A private copy of the untied Llama, to damage."""
    return Path(shutil.copytree(models / "llama", tmp_path / "llama"))


@pytest.fixture
def sharded(models, tmp_path):
    load(models / "llama").save_pretrained(tmp_path / "sharded", max_shard_size="7KB")
    return tmp_path / "sharded"


def rename_tensor(path, old, new):
    edit_header(path, lambda header: {new if key == old else key: value for key, value in header.items()})


DAMAGE = {
    "truncated": (lambda d: os.truncate(d / "model.safetensors", 5000), "truncated|corrupted"),
    "too short for a header": (lambda d: (d / "model.safetensors").write_bytes(b"\x01"), "truncated"),
    "huge header": (lambda d: (d / "model.safetensors").write_bytes(b"\xff" * 4096), "truncated or not a safetensors"),
    "trailing bytes": (lambda d: (d / "model.safetensors").open("ab").write(b"x"), "corrupted"),
    "overlap": (
        lambda d: edit_header(d / "model.safetensors", lambda h: h["model.norm.weight"].update(data_offsets=[0, 64])),
        "corrupted",
    ),
    "size against shape": (lambda d: edit_header(d / "model.safetensors", lambda h: h["model.norm.weight"].update(shape=[17])), "needs 68"),
    "dtype": (lambda d: edit_header(d / "model.safetensors", lambda h: h["model.norm.weight"].update(dtype="F99")), "malformed"),
    "negative": (lambda d: edit_header(d / "model.safetensors", lambda h: h["model.norm.weight"].update(shape=[-16])), "malformed"),
    "vocab_size": (lambda d: edit_json(d / "config.json", vocab_size=V + 1), f"vocab_size {V + 1}, but .* has {V} rows"),
    "hidden size": (lambda d: edit_json(d / "config.json", hidden_size=32, head_dim=16), "32 hidden dimensions, but .* has 16"),
    "no table": (lambda d: rename_tensor(d / "model.safetensors", "model.embed_tokens.weight", "x"), "no tensor for model.embed_tokens"),
    "no head": (lambda d: rename_tensor(d / "model.safetensors", "lm_head.weight", "x"), "lm_head.weight is not in the files"),
    "config is not JSON": (lambda d: (d / "config.json").write_text("{"), "config.json: not valid JSON"),
    "config is a list": (lambda d: (d / "config.json").write_text("[]"), "not a JSON object"),
    "no config": (lambda d: (d / "config.json").unlink(), "no config.json"),
    "unknown model": (lambda d: edit_json(d / "config.json", model_type="nonesuch"), "not one that transformers"),
    "own code": (
        lambda d: edit_json(d / "config.json", model_type="nonesuch", auto_map={"AutoConfig": "a.B"}),
        "code of its own",
    ),
    "pickle only": (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "pickle.*save_pretrained"),
    "GGUF only": (lambda d: (d / "model.safetensors").rename(d / "model.gguf"), "GGUF.*gguf_file"),
    "adapter only": (lambda d: (d / "model.safetensors").rename(d / "adapter_config.json"), "PEFT adapter"),
    "nothing": (lambda d: (d / "model.safetensors").unlink(), "not a checkpoint, or not fetched"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_clear_line(llama, damage):
    cause, message = DAMAGE[damage]
    cause(llama)
    found = refusal(Checkpoint.open, llama, vocabulary=True)
    assert re.search(message, found), found
    assert str(llama) in found


def test_an_index_that_names_what_is_not_there(sharded):
    index_path = sharded / "model.safetensors.index.json"
    index = json.loads(index_path.read_text())
    shard = next(iter(index["weight_map"].values()))
    index_path.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {"ghost.weight": shard}}))
    assert "tensor ghost.weight is missing" in refusal(Checkpoint.open, sharded)
    index_path.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {"ghost.weight": "../llama/model.safetensors"}}))
    assert "outside the folder" in refusal(Checkpoint.open, sharded)
    index_path.write_text(json.dumps(index))
    (sharded / shard).unlink()
    assert f"shard {shard} is missing" in refusal(Checkpoint.open, sharded)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_headers_are_accepted_only_if_safetensors_accepts_them(tmp_path_factory, data):
    """Any file that we open, the reference library opens too, with the same tensors."""
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4, dtype=torch.uint8)}, path, metadata={"k": "v"})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, min(len(raw), 150) - 1))
        action = data.draw(st.sampled_from(["set", "insert", "delete", "cut"]))
        value = data.draw(st.sampled_from([*b'0123456789,:[]{}"ab-.eE \x00\xff']))
        if action == "set":
            raw[place] = value
        elif action == "insert":
            raw.insert(place, value)
        elif action == "delete" and len(raw) > 1:
            del raw[place]
        else:
            raw = raw[: place + 1]
    path.write_bytes(raw)
    try:
        shard = read_shard(path)
    except CheckpointError:
        return
    try:
        reference = load_file(path)
    except SafetensorError as error:
        pytest.fail(f"accepted what safetensors refuses: {error}")
    assert {name: info.shape for name, info in shard.tensors.items()} == {name: tuple(t.shape) for name, t in reference.items()}
