"""What a folder is told it is, it is."""

import json

import pytest
import transformers

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError, TokenizerError
from regraft.tokenizer import Tokenizer
from regraft.training import Training
from regraft.vocab.adapt import adapt
from toys import models as tiny_models
from toys.checkpoints import refusal
from toys.directory import domain_texts, save_decoder


def test_an_adapter_is_told_to_be_merged(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "PEFT adapter without its base model: merge it first" in refusal(Checkpoint.open, tmp_path)


def test_modules_with_another_vocabulary_are_named(tmp_path):
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.StaticEmbedding", "path": ""}]))
    assert "none of the modules (StaticEmbedding) is a Transformer" in refusal(Checkpoint.open, tmp_path)


def test_a_tokenizer_of_bytes_is_not_told_to_make_a_file(tmp_path):
    transformers.ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match="ByT5Tokenizer reads bytes or characters and has no pieces"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("value", [[300], {"rows": 300}])
def test_a_size_that_is_no_number_is_named(tmp_path, value):
    save_decoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": value}))
    assert "vocab_size" in refusal(Checkpoint.open, tmp_path, vocabulary=True)


def test_a_wrong_objective_is_refused_before_anything_is_scored(tmp_path, monkeypatch):
    tiny_models.bert().save_pretrained(tmp_path / "bert")
    tiny_models.wordpiece().save_pretrained(tmp_path / "bert")
    (tmp_path / "text.txt").write_text("\n\n".join(domain_texts(40)))
    monkeypatch.setattr("regraft.vocab.job.Job.score", lambda *_, **__: pytest.fail("scored"))
    training = Training(steps=1, block=16, objective="clm")
    with pytest.raises(ParameterError, match="objective='clm' does not fit BertForMaskedLM: choose 'mlm'"):
        adapt(tmp_path / "bert", corpus=[tmp_path / "text.txt"], extend=3, out=tmp_path / "new", training=training)
