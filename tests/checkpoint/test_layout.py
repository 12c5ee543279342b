"""Layouts: the vocabulary's tensors of every architecture we name are found, whatever their names and however often they are stored."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from regraft.checkpoint import Checkpoint, write
from toys.checkpoints import MODELS, NEW, D, V, grown, load, outputs, refusal, save_models, stored_again

# name -> (input, head, bias, tied, kind)
EXPECTED = {
    "llama": (("model.embed_tokens.weight",), ("lm_head.weight",), (), False, "decoder"),
    "llama-tied": (("model.embed_tokens.weight",), (), (), True, "decoder"),
    "gpt2": (("transformer.wte.weight",), (), (), True, "decoder"),
    "qwen2": (("model.embed_tokens.weight",), (), (), True, "decoder"),
    "qwen3": (("model.embed_tokens.weight",), ("lm_head.weight",), (), False, "decoder"),
    "gemma3": (("model.embed_tokens.weight",), (), (), True, "decoder"),
    "bert": (("embeddings.word_embeddings.weight",), (), (), False, "encoder"),
    "bert-mlm": (("bert.embeddings.word_embeddings.weight",), (), ("cls.predictions.bias",), True, "encoder"),
    "roberta-mlm": (("roberta.embeddings.word_embeddings.weight",), (), ("lm_head.bias",), True, "encoder"),
    "modernbert-mlm": (("model.embeddings.tok_embeddings.weight",), (), ("decoder.bias",), True, "encoder"),
    "t5": (("shared.weight",), (), (), True, "encoder-decoder"),
    "marian": (("model.shared.weight",), (), ("final_logits_bias",), True, "encoder-decoder"),
    "bart": (("model.shared.weight",), (), ("final_logits_bias",), True, "encoder-decoder"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    return root


@pytest.mark.parametrize("name", MODELS)
def test_layout_of_each_architecture(models, name):
    layout = Checkpoint.open(models / name).layout
    assert (layout.input, layout.head, layout.bias, layout.tied, layout.kind) == EXPECTED[name]
    assert (layout.rows, layout.dim) == (V, D)
    assert layout.initializer_range == (1.0 if name == "t5" else 0.02)


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("llama-tied", {"lm_head.weight": "model.embed_tokens.weight"}),
        ("t5", {f"{part}.weight": "shared.weight" for part in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head")}),
        ("bart", {f"model.{part}.embed_tokens.weight": "model.shared.weight" for part in ("encoder", "decoder")}),
        (
            "bert-mlm",
            {
                "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
                "cls.predictions.decoder.bias": "cls.predictions.bias",
            },
        ),
        ("roberta-mlm", {"lm_head.decoder.bias": "lm_head.bias"}),
    ],
)
def test_every_stored_copy_is_rewritten(models, tmp_path, name, copies):
    source = Checkpoint.open(stored_again(models / name, tmp_path / "source", copies))
    assert (source.layout.tied, source.layout.head) == (True, ())
    assert source.layout.input[0] == EXPECTED[name][0][0]
    assert set(source.layout.names) == set(copies) | set(EXPECTED[name][0]) | set(EXPECTED[name][2])
    values, *_ = grown(source)
    one_name_each = {names[0]: values[names[0]] for names in (source.layout.input, source.layout.bias) if names}
    write(source, tmp_path / "out", tensors=one_name_each)
    after = load_file(tmp_path / "out" / "model.safetensors")
    for copy, old in copies.items():
        assert torch.equal(after[copy], after[old])
        assert len(after[copy]) == V + NEW
    ids = torch.arange(3, 43).reshape(1, 40)
    assert torch.equal(outputs(load(tmp_path / "out"), ids), outputs(load(models / name), ids))


def test_a_head_declared_tied_but_stored_with_other_values_is_untied(models, tmp_path):
    source = stored_again(models / "t5", tmp_path / "t5", {"lm_head.weight": "shared.weight"}, tie_word_embeddings=False)
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] += 1
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    checkpoint = Checkpoint.open(source)
    assert (checkpoint.layout.input, checkpoint.layout.head, checkpoint.layout.tied) == (("shared.weight",), ("lm_head.weight",), False)
    values, _, head, _ = grown(checkpoint)
    write(checkpoint, tmp_path / "out", tensors=values)
    new = load(tmp_path / "out")
    assert torch.equal(new.lm_head.weight[V:], head)
    ids = torch.arange(3, 43).reshape(1, 40)
    assert torch.equal(outputs(new, ids), outputs(load(source), ids))


def test_separate_vocabularies_of_encoder_and_decoder_are_refused(models, tmp_path):
    copies = {f"model.{part}.embed_tokens.weight": "model.shared.weight" for part in ("encoder", "decoder")}
    source = stored_again(models / "marian", tmp_path / "marian", copies)
    tensors = load_file(source / "model.safetensors")
    tensors["model.decoder.embed_tokens.weight"] += 1
    save_file(tensors, source / "model.safetensors")
    assert "separate vocabularies" in refusal(Checkpoint.open, source, vocabulary=True)


@pytest.mark.parametrize("add", [True, False])
def test_base_model_prefix_may_be_missing_or_added(models, tmp_path, add):
    """Names as a base class saves them under a config of the headed class, and the other way round."""
    source = Path(shutil.copytree(models / ("bert" if add else "bert-mlm"), tmp_path / "source"))
    tensors = load_file(source / "model.safetensors")
    renamed = {f"bert.{k}" if add else k.removeprefix("bert."): v for k, v in tensors.items()}
    save_file(renamed, source / "model.safetensors")
    layout = Checkpoint.open(source).layout
    assert layout.input == ("bert.embeddings.word_embeddings.weight" if add else "embeddings.word_embeddings.weight",)
    assert layout.bias == (() if add else ("cls.predictions.bias",))


def test_names_of_another_library_version_are_found_by_their_ending(models, tmp_path):
    source = Path(shutil.copytree(models / "llama-tied", tmp_path / "source"))
    tensors = load_file(source / "model.safetensors")
    save_file({f"language_model.{name}": tensor for name, tensor in tensors.items()}, source / "model.safetensors")
    assert Checkpoint.open(source).layout.input == ("language_model.model.embed_tokens.weight",)
    doubled = tensors | {"other.embed_tokens.weight": tensors["model.embed_tokens.weight"] + 1}
    doubled["another.embed_tokens.weight"] = doubled.pop("model.embed_tokens.weight")
    save_file(doubled, source / "model.safetensors")
    assert "cannot tell which is the input table" in refusal(Checkpoint.open, source, vocabulary=True)
