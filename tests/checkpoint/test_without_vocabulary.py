"""A model that reads no text opens, is written, recorded and brought back like any other; only who asks for its vocabulary is refused."""

import functools

import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTModel

from regraft import provenance
from regraft.checkpoint import Checkpoint, write
from toys.checkpoints import refusal


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vit") / "model"
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    ViTModel(ViTConfig(**shape)).save_pretrained(path)
    return path


def test_it_opens_and_says_what_it_has_no_vocabulary_for(vit):
    checkpoint = Checkpoint.open(vit)
    assert checkpoint.vocabulary == ()
    assert checkpoint.read("layernorm.weight").shape == (16,)
    assert checkpoint.source_hash() == Checkpoint.open(vit).source_hash()
    assert str(vit) in refusal(lambda: checkpoint.layout)
    assert refusal(lambda: checkpoint.layout) == refusal(Checkpoint.open, vit, vocabulary=True)


def test_it_is_written_recorded_and_brought_back(vit, tmp_path):
    checkpoint, out = Checkpoint.open(vit), tmp_path / "out"
    about = provenance.record(checkpoint, "grow", method="wider")
    tensors, added = {"layernorm.weight": torch.full((16,), 2.0)}, {"extra.weight": torch.ones(3)}
    report = write(checkpoint, out, tensors=tensors, added=added, record=functools.partial(provenance.save, about))
    assert report.files_rewritten == ("model.safetensors",)
    stored = load_file(out / "model.safetensors")
    assert torch.equal(stored["layernorm.weight"], tensors["layernorm.weight"])
    assert torch.equal(stored["extra.weight"], added["extra.weight"])
    assert torch.equal(stored["layernorm.bias"], checkpoint.read("layernorm.bias"))
    assert provenance.undo(out).source == vit.resolve()
    assert load_file(out / "model.safetensors").keys() == load_file(vit / "model.safetensors").keys()


def test_a_source_that_is_no_checkpoint_is_recorded_and_brought_back_too(tmp_path):
    class Table:
        """A folder with one table, as another family may read it."""

        def __init__(self, root, revision=None):
            self.root, self.id, self.revision = root, None, revision

        def source_hash(self):
            return f"sha256:{provenance.sha256(self.root / 'table.npy')}"

    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "table.npy").write_bytes(b"rows")
    (out / "codes.npy").write_bytes(b"codes")
    provenance.save(provenance.record(Table(source), "compress"), out)
    assert provenance.undo(out, open_source=lambda path, *, revision: Table(path, revision)).files_copied == 1
    assert (out / "table.npy").read_bytes() == b"rows"
    assert not (out / "codes.npy").exists()
