"""Surfaces, spelling, encoding, files."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import TokenizerError
from regraft.tokenizer import Tokenizer

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
KINDS = ["byte-bpe", "sentencepiece-bpe", "wordpiece", "unigram"]


def test_algorithms_are_told_apart(tokenizers):
    assert {name: t.algorithm for name, t in tokenizers.items()} == {name: name for name in KINDS}


@given(text=ANY_TEXT)
@settings(max_examples=60, deadline=None)
def test_surfaces_of_an_encoding_join_to_the_text(tokenizers, text):
    byte_level = tokenizers["byte-bpe"]
    assert b"".join(map(byte_level.surface, byte_level.encode(text))) == text.encode()


@given(data=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_spelled_bytes_give_the_bytes_back_even_where_they_are_no_text(tokenizers, data):
    for name in ("byte-bpe", "sentencepiece-bpe"):
        tokenizer = tokenizers[name]
        # a marker character in the data is read as the space it stands for
        assert b"".join(map(tokenizer.surface, tokenizer.spell(data))) == data.replace("▁".encode(), b" ")


def test_every_reachable_piece_spells_itself(tokenizer):
    for token in tokenizer.model_vocab.values():
        if token in tokenizer.added or token == tokenizer.unknown_id:
            continue
        spelled = tokenizer.spell(tokenizer.surface(token), tokenizer.continues_word(token))
        joined = b"".join(tokenizer.surface(t) for t in spelled)
        assert joined == tokenizer.surface(token)
        if tokenizer.algorithm != "unigram" and not tokenizer.surface(token).startswith(b"<0x"):
            assert len(spelled) == 1


def test_wordpiece_spells_continuations_as_continuations(minilm):
    ids = minilm.spell(b"ing", True)
    assert [minilm.pieces[i] for i in ids] == ["##ing"]
    assert minilm.spell(b"The") == [minilm.vocab["the"]]  # it lower-cases
    assert minilm.spell("中\U0001f9ec".encode()) == [minilm.vocab["中"]]  # what it lacks is dropped
    assert minilm.continues_word(minilm.vocab["##ing"])
    assert not minilm.continues_word(minilm.vocab["the"])


def test_special_tokens_are_known(tokenizers):
    byte_level = tokenizers["byte-bpe"]
    assert {byte_level.pieces[i] for i in byte_level.special_ids} == {"<|end|>", "<|pad|>"}
    assert byte_level.surface(byte_level.vocab["<|end|>"]) == b"<|end|>"
    assert not byte_level.is_special(byte_level.vocab["<tool>"])


def test_truncation_and_padding_of_the_file_do_not_apply(minilm):
    assert len(minilm.encode("word " * 1000)) == 1000
    assert minilm.spec["truncation"]["max_length"] == 128  # and the file keeps them


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer):
    with pytest.raises(TokenizerError, match=r"U\+D83D at character 3"):
        tokenizer.encode("abc\ud83d")
    with pytest.raises(TokenizerError, match="surrogate"):
        tokenizer.encode_batch(["fine", "\udc00"])


def test_a_line_of_a_megabyte_takes_seconds(tokenizer):
    line = "banor deluvex go " * 60_000
    start = time.process_time()
    assert len(tokenizer.encode(line)) > 100_000
    assert time.process_time() - start < 6  # 10 MB in a minute, whatever else the machine does


def test_save_and_open_again_changes_nothing(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.from_directory(tmp_path)
    assert again.spec == tokenizer.spec
    assert again.companions == tokenizer.companions


def test_save_breaks_hard_links_and_removes_stale_files(tokenizer, tmp_path):
    original, copy = tmp_path / "original", tmp_path / "copy"
    for folder in (original, copy):
        folder.mkdir()
    (original / "tokenizer.json").write_text("kept")
    (copy / "tokenizer.json").hardlink_to(original / "tokenizer.json")
    (copy / "tokenizer.model").write_bytes(b"old vocabulary")
    tokenizer.save(copy)
    assert (original / "tokenizer.json").read_text() == "kept"
    assert sorted(p.name for p in copy.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_what_is_no_tokenizer_is_refused_in_one_line(tmp_path, tokenizers):
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json; make one with"):
        Tokenizer.from_directory(tmp_path)
    file = tmp_path / "tokenizer.json"
    for content, reason in [
        ("{", "not valid JSON"),
        ("[]", "no model with a vocabulary"),
        (json.dumps({"model": {"type": "WordLevel", "vocab": {"a": 0}}}), "a WordLevel model cannot be changed"),
        (json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}), "malformed"),
    ]:
        file.write_text(content)
        with pytest.raises(TokenizerError, match=reason) as caught:
            Tokenizer.from_directory(tmp_path)
        assert "\n" not in str(caught.value)
