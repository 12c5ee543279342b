"""Families in which an id's height means something: time stamps, pooling at the highest id, ids of images and sound past those of text."""

import json
import sys
from pathlib import Path

import pytest
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from every_family import toys
from every_family.classes import build

from regraft.errors import TokenizerError
from regraft.vocab.adapt import adapt


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def folder_of(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder.parent / "corpus.txt").write_text(toys.corpus(), "utf-8")
    return folder


def stated(folder, name, **fields):
    path = folder / name
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | fields))


@pytest.mark.parametrize(("name", "kind"), [("WhisperForConditionalGeneration", "sequence-to-sequence"), ("WhisperForCausalLM", "causal")])
def test_no_text_among_time_stamps(name, kind, tmp_path):
    tokenizer = toys.toy("byte-bpe")
    rows = len(tokenizer)
    source = folder_of(transformers_of(name, kind, rows), tokenizer, tmp_path / "source")
    stated(source, "generation_config.json", no_timestamps_token_id=rows - 3)
    with pytest.raises(TokenizerError, match=rf"ids above no_timestamps_token_id \({rows - 3}\) are time stamps"):
        adapt(source, out=tmp_path / "out", corpus=[tmp_path / "corpus.txt"], extend=5, score=False)
    assert not (tmp_path / "out").exists()


def transformers_of(name, kind, rows):
    if name == "WhisperForCausalLM":
        return build(name, kind, rows, rows - toys.EXTRA)
    config = transformers.WhisperConfig(
        vocab_size=rows, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=16, max_target_positions=32, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config)


@pytest.mark.parametrize("family", ["OwlViT", "Owlv2"])
def test_the_end_of_text_stays_the_highest_id(family, tmp_path):
    tokenizer = toys.toy("byte-bpe")
    rows = len(tokenizer)
    config = getattr(transformers, f"{family}TextConfig")(
        vocab_size=rows, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = getattr(transformers, f"{family}TextModel")(config).eval()
    ids = torch.tensor([[5, rows - 1, 7, 8]])
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert torch.equal(out.pooler_output, out.last_hidden_state[:, 1])  # the family does pool there
    source = folder_of(model, tokenizer, tmp_path / "source")
    with pytest.raises(TokenizerError, match="reads a text at its highest id"):
        adapt(source, out=tmp_path / "out", corpus=[tmp_path / "corpus.txt"], extend=5, score=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["Gemma3nForCausalLM", "Gemma4ForCausalLM"])
def test_no_text_behind_images_and_sound(name, tmp_path):
    tokenizer = toys.toy("sentencepiece-bpe")
    rows = len(tokenizer)
    model = build(name, "causal", rows, rows - toys.EXTRA)
    assert model.config.get_text_config().vocab_size_per_layer_input == rows
    source = folder_of(model, tokenizer, tmp_path / "source")
    text = json.loads((source / "config.json").read_text())
    text.get("text_config", text)["vocab_size_per_layer_input"] = rows - 10
    (source / "config.json").write_text(json.dumps(text))
    with pytest.raises(TokenizerError, match=rf"ids from {rows - 10} on are images and sound"):
        adapt(source, out=tmp_path / "out", corpus=[tmp_path / "corpus.txt"], extend=5, score=False)
    assert not (tmp_path / "out").exists()
