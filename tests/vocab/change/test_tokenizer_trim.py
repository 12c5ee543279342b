"""Trimming, adding words, and matching tokens between tokenizers."""

import json

import numpy as np
import pytest
from tokenizers import processors

from regraft.errors import TokenizerError
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.overlap import match_tokens
from regraft.vocab.change import add_words, replace, trim
from toys.text import NEW, OLD, companions


def test_trimmed_text_is_cut_as_before(tokenizer):
    kept = OLD[:20]
    change = trim(tokenizer, kept)
    assert change.tokenizer.vocab_size < tokenizer.vocab_size
    assert (change.source_ids >= 0).all()
    assert (np.diff(change.source_ids) > 0).all()
    for text in kept:
        assert change.source_ids[change.tokenizer.encode(text)].tolist() == tokenizer.encode(text)
    for i, token in change.tokenizer.added.items():
        assert tokenizer.pieces[int(change.source_ids[i])] == token.content
    assert {change.tokenizer.surface(i) for i in range(change.tokenizer.vocab_size)} <= {
        tokenizer.surface(i) for i in range(tokenizer.vocab_size)
    }


def test_trimming_keeps_every_text_writable(tokenizers):
    for name in ("byte-bpe", "sentencepiece-bpe"):
        change = trim(tokenizers[name], OLD[:3])
        for text in [*NEW[:20], "\x00 中文 🧬"]:
            assert change.tokenizer.decode(change.tokenizer.encode(text)) == text


def test_trimming_renumbers_the_post_processor_and_companions(tokenizers):
    spec = json.loads(json.dumps(tokenizers["byte-bpe"].spec))
    end = tokenizers["byte-bpe"].vocab["<|end|>"]
    spec["post_processor"] = json.loads(processors.TemplateProcessing("$A <|end|>", special_tokens=[("<|end|>", end)]).__getstate__())
    config = companions(added_tokens_decoder={str(end): {"content": "<|end|>", "special": True}})
    change = trim(Tokenizer.from_spec(spec, config), OLD[:3])
    moved = change.tokenizer.vocab["<|end|>"]
    assert moved != end
    assert change.tokenizer.backend.encode("ba").ids[-1] == moved
    assert list(json.loads(change.tokenizer.companions["tokenizer_config.json"])["added_tokens_decoder"]) == [str(moved)]


def test_trimming_minilm(minilm):
    texts = ["The quick brown fox jumps over the lazy dog.", "Photosynthesis in plants"]
    change = trim(minilm, texts)
    for text in texts:
        assert change.source_ids[change.tokenizer.encode(text)].tolist() == minilm.encode(text)
    assert change.tokenizer.unknown_id not in change.tokenizer.encode("unseen words still spell")
    with pytest.raises(TokenizerError, match="no token to keep"):
        trim(minilm, [])


def test_added_words_are_single_tokens_and_decode(tokenizer):
    words = (
        ["norvexbalu", "torquimar", "norvexbaluso"] if tokenizer.algorithm == "unigram" else ["norvexbaluu", "torquimarq", "norvexbaluus"]
    )
    words = [w for w in words if len(tokenizer.encode(" " + w)) > 1]
    change = add_words(tokenizer, [*words, words[0]])
    assert change.unreachable == []
    for word in words:
        text = f"ba {word} de"
        assert len(change.tokenizer.encode(text)) == len(tokenizer.encode("ba")) + 1 + len(
            tokenizer.encode(" de" if tokenizer.algorithm == "byte-bpe" else "de")
        )
        assert change.tokenizer.decode(change.tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    old_texts = [t for t in OLD if all(i < tokenizer.vocab_size for i in change.tokenizer.encode(t))]
    assert old_texts
    for text in old_texts:
        assert change.tokenizer.encode(text) == tokenizer.encode(text)


def test_phrases_become_added_tokens(tokenizer):
    change = add_words(tokenizer, ["ba de fi"])
    text = "go ba de fi lu, ba de fi lu."
    new = int(change.new_ids[-1])
    assert change.tokenizer.encode(text).count(new) == 2
    assert change.tokenizer.decode(change.tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    if tokenizer.algorithm == "sentencepiece-bpe":
        # given whole lines, the model itself can join the phrase; an added token would come back with a space too many
        assert change.tokenizer.added.keys() == tokenizer.added.keys()
    else:
        assert change.new_ids.tolist() == [new]
        assert any("became added tokens" in note for note in change.notes)
        assert not any("space between" in note for note in change.notes)
        assert new not in change.tokenizer.encode("go ba de fifi lu")  # whole words only


def test_words_that_are_tokens_already(tokenizers):
    token = next(i for i in range(tokenizers["byte-bpe"].vocab_size) if tokenizers["byte-bpe"].surface(i).startswith(b" nor"))
    word = tokenizers["byte-bpe"].surface(token).decode().strip()
    with pytest.raises(TokenizerError, match="single token already"):
        add_words(tokenizers["byte-bpe"], [word])
    with pytest.raises(TokenizerError, match="empty"):
        add_words(tokenizers["byte-bpe"], [" "])


def test_a_tokenizer_matches_itself(tokenizer):
    matched = match_tokens(tokenizer, tokenizer)
    surfaces = [tokenizer.surface(i) for i in range(tokenizer.vocab_size)]
    different = [i for i, old in enumerate(matched.tolist()) if old != i]
    # two tokens may stand for the same bytes ("<0x61>" and "a"): then both take the canonical one
    assert all(surfaces[i] == surfaces[int(matched[i])] for i in different)
    assert len(different) <= 260


def toy(pieces, prefix="##", **config) -> Tokenizer:
    vocab = {piece: i for i, piece in enumerate(["[UNK]", "[CLS]", "[SEP]", *pieces])}
    added = [
        {"id": i, "content": c, "special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
        for i, c in enumerate(["[UNK]", "[CLS]", "[SEP]"])
    ]
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": prefix,
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    }
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": model,
    }
    return Tokenizer.from_spec(spec, companions(unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"))


def test_word_starts_and_continuations_match_across_families(tokenizers):
    byte_level = tokenizers["byte-bpe"]
    byte_level = byte_level.with_spec(byte_level.spec, companions(bos_token="<|pad|>", eos_token="<|end|>"))
    initial = next(byte_level.surface(i) for i in range(257, byte_level.vocab_size) if byte_level.surface(i).startswith(b" "))
    inside = next(byte_level.surface(i) for i in range(257, byte_level.vocab_size) if byte_level.surface(i).isalpha())
    target = toy([initial.decode().strip(), "##" + inside.decode(), inside.decode() + "xyz"])
    matched = match_tokens(byte_level, target)
    assert byte_level.surface(int(matched[3])) == initial
    assert byte_level.surface(int(matched[4])) == inside
    assert matched[5] == -1
    assert matched[1] == byte_level.vocab["<|pad|>"]  # CLS takes BOS
    assert matched[2] == byte_level.vocab["<|end|>"]  # SEP takes EOS


def test_bytes_match_by_value(tokenizers):
    matched = match_tokens(tokenizers["byte-bpe"], tokenizers["sentencepiece-bpe"])
    target = tokenizers["sentencepiece-bpe"].vocab
    assert tokenizers["byte-bpe"].surface(int(matched[target["<0xE4>"]])) == b"\xe4"
    assert tokenizers["byte-bpe"].surface(int(matched[target["<0x0A>"]])) == b"\n"
    assert tokenizers["byte-bpe"].surface(int(matched[target["a"]])) == b"a"


def test_replacing_reports_the_overlap(tokenizers, minilm):
    change = replace(tokenizers["byte-bpe"], minilm)
    assert change.tokenizer is minilm
    assert change.source_ids.shape == (minilm.vocab_size,)
    found = int((change.source_ids >= 0).sum())
    assert change.notes[0].startswith(f"{found} of {minilm.vocab_size} tokens")
    np.testing.assert_array_equal(np.flatnonzero(change.source_ids < 0), change.new_ids)
