"""AdaptiVocab as a job: n-gram tokens in the place of tokens of little use, started from what used to spell them."""

import json
from functools import cache

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from regraft.vocab.adapt import adapt
from regraft.vocab.initializers.constituent_exponential import exponential_weights
from toys import models as tiny_models
from toys.text import OLD

ROWS = 460


@cache
def old_tokenizer():
    """Byte-level BPE of words that the domain has, and of many that it has not."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=ROWS, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([*tiny_models.texts(200), *OLD], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("adaptivocab")
    tiny_models.llama(tied=False, rows=ROWS).save_pretrained(root / "model")
    old_tokenizer().save_pretrained(root / "model")
    together = ["the cat sat on", "a mat with", "that rat ran", "far past an old map"]
    texts = [f"{together[i % 4]} {text} {together[i % 3]}" for i, text in enumerate(tiny_models.texts(60, seed=4))]
    (root / "corpus.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return root


@pytest.mark.parametrize("route", ["n-grams", "adaptivocab"])
def test_the_result_is_an_ordinary_checkpoint(place, tmp_path, route):
    done = adapt(
        place / "model", corpus=[place / "corpus.txt"], out=tmp_path / "out", extend=12, route=route, method="constituent-exponential"
    )
    old, new = (AutoModelForCausalLM.from_pretrained(path) for path in (place / "model", tmp_path / "out"))
    before_tokenizer, new_tokenizer = (AutoTokenizer.from_pretrained(path) for path in (place / "model", tmp_path / "out"))
    rows = ROWS if route == "adaptivocab" else ROWS + 12
    assert new.config.vocab_size == new.get_input_embeddings().weight.shape[0] == len(new_tokenizer) == rows
    text = "the cat sat on a mat with the land café far past an old map"
    ids = new_tokenizer(text).input_ids
    assert new_tokenizer.decode(ids) == before_tokenizer.decode(before_tokenizer(text).input_ids) == text
    assert len(ids) < len(before_tokenizer(text).input_ids)
    fresh = done.transplant.new_ids.tolist()
    assert len(fresh) == 12
    assert set(ids) & set(fresh)
    kept = [i for i in range(ROWS) if i not in fresh]
    for table in ("get_input_embeddings", "get_output_embeddings"):
        before, after = (getattr(model, table)().weight for model in (old, new))
        assert torch.equal(after[kept], before[kept])
    assert done.metrics["in_hull"] == 1.0
    assert done.metrics["unreachable"] == 0
    cut = done.metrics["tokenization"]["domain"]
    assert cut["new_tokens_per_byte"] < 0.85 * cut["old_tokens_per_byte"]
    notes = json.dumps(json.loads((tmp_path / "out/report.json").read_text()))
    assert "n-grams" in notes
    assert ("take the place of 12 old tokens" in notes) == (route == "adaptivocab")


def test_input_rows_weigh_the_last_piece_and_head_rows_the_first(place, tmp_path):
    done = adapt(
        place / "model",
        corpus=[place / "corpus.txt"],
        out=tmp_path / "out",
        extend=6,
        route="n-grams",
        method="constituent-exponential",
        score=False,
    )
    model = AutoModelForCausalLM.from_pretrained(place / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    new = int(done.transplant.new_ids[-1])
    pieces = old_tokenizer().backend_tokenizer.model.tokenize(tokenizer.convert_ids_to_tokens(new))
    for role, table, rows in (
        ("last", model.get_input_embeddings().weight, done.transplant.input),
        ("first", model.get_output_embeddings().weight, done.transplant.head),
    ):
        weights = exponential_weights(len(pieces), 2.0, role)
        expected = sum(w * table[token.id] for w, token in zip(weights, pieces, strict=True))
        torch.testing.assert_close(rows[new], expected, rtol=1e-5, atol=1e-6)
