"""Extending: old ids stay, old text stays, every new piece lives."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import ParameterError, TokenizerError
from regraft.tokenizer import Tokenizer, check_reachability
from regraft.tokenizer.as_transformers import agrees_with_transformers
from regraft.vocab.change import extend
from toys.text import NEW, OLD, companions, make_texts

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
MIXED = st.lists(st.sampled_from([*OLD, *NEW, "\x00", "e\u0301", "中文", "<tool>", "<|end|>", "  "]), max_size=4).map(" ".join)


def test_old_ids_stay_and_new_ones_follow(tokenizer, extended):
    new = extended.tokenizer
    assert new.vocab_size == tokenizer.vocab_size + 40
    assert {piece: new.vocab[piece] for piece in tokenizer.vocab} == tokenizer.vocab
    assert extended.source_ids.shape == (new.vocab_size,)
    np.testing.assert_array_equal(extended.source_ids[: tokenizer.vocab_size], np.arange(tokenizer.vocab_size))
    np.testing.assert_array_equal(extended.new_ids, np.arange(tokenizer.vocab_size, new.vocab_size))


def test_every_new_piece_is_reachable_and_text_gets_shorter(tokenizer, extended):
    assert extended.unreachable == []
    assert check_reachability(extended.tokenizer, extended.new_ids.tolist(), NEW) == []
    if tokenizer.algorithm in ("byte-bpe", "sentencepiece-bpe"):
        before, after = (sum(map(len, t.encode_batch(NEW))) for t in (tokenizer, extended.tokenizer))
        assert after < 0.75 * before


def test_special_and_added_tokens_keep_their_ids_and_meaning(tokenizer, extended):
    assert extended.tokenizer.added.keys() == tokenizer.added.keys()
    assert extended.tokenizer.special_ids == tokenizer.special_ids
    for i, token in tokenizer.added.items():
        assert extended.tokenizer.encode(token.content) == tokenizer.encode(token.content)
        assert extended.tokenizer.pieces[i] == token.content


@pytest.mark.parametrize("strategy", [ANY_TEXT, MIXED], ids=["any", "mixed"])
def test_decoding_is_the_old_one_and_text_without_new_pieces_keeps_its_ids(tokenizer, extended, strategy):
    first = tokenizer.vocab_size

    @given(text=strategy)
    @settings(max_examples=80, deadline=None)
    def check(text):
        old, new = tokenizer.encode(text), extended.tokenizer.encode(text)
        if all(i < first for i in new):
            assert new == old
        if tokenizer.unknown_id not in old:
            assert extended.tokenizer.decode(new) == tokenizer.decode(old)

    check()


def test_bpe_joins_only_what_the_old_merges_left(tokenizers):
    """The old pieces that spell the new pieces of a text are the old tokenizer's own cut of it."""
    for name in ("byte-bpe", "sentencepiece-bpe"):
        old = tokenizers[name]
        new = extend(old, NEW, 40).tokenizer
        borders = [np.cumsum([0, *(len(t.surface(i)) for i in t.encode(NEW[0]))]) for t in (old, new)]
        assert set(borders[1]) <= set(borders[0])


def test_pieces_end_at_character_borders(tokenizers):
    change = extend(tokenizers["byte-bpe"], NEW, 60)
    for token in change.new_ids:
        surface = change.tokenizer.surface(int(token))
        whole = surface.decode("utf-8", "ignore").encode() == surface
        assert whole or len(surface) < 4


def test_characters_that_fell_to_bytes_or_unknown_become_pieces(tokenizers):
    for name, pieces in {"sentencepiece-bpe": {"ệ", "ơ"}, "unigram": {"д"}, "wordpiece": {"##ơ", "д"}}.items():
        change = extend(tokenizers[name], NEW, 60)
        assert {"".join(change.tokenizer.pieces[int(i)]) for i in change.new_ids} & pieces, name
        before = tokenizers[name].encode_batch(NEW)
        after = change.tokenizer.encode_batch(NEW)
        unknown = tokenizers[name].unknown_id
        assert sum(ids.count(unknown) for ids in after) <= sum(ids.count(unknown) for ids in before)


def test_unknown_words_become_known(tokenizers):
    for name in ("wordpiece", "unigram"):
        change = extend(tokenizers[name], NEW, 60)
        assert change.tokenizer.unknown_id not in change.tokenizer.encode(NEW[0])
        assert tokenizers[name].unknown_id in tokenizers[name].encode(NEW[0])


def test_digits_stay_apart_where_the_old_vocabulary_keeps_them_so(tokenizers):
    texts = ["in 1984 and 1985 it was 1984 again"] * 50
    merged = extend(tokenizers["byte-bpe"], [*texts, *OLD], 5)
    assert any(b"42" in tokenizers["byte-bpe"].surface(i) for i in range(tokenizers["byte-bpe"].vocab_size))
    assert any(any(48 <= byte < 58 for byte in merged.tokenizer.surface(int(i))) for i in merged.new_ids)
    spec = tokenizers["byte-bpe"].editable()
    spec["model"]["vocab"] = {p: i for p, i in spec["model"]["vocab"].items() if not (len(p) > 1 and any(c.isdigit() for c in p))}
    spec["model"]["merges"] = [m for m in spec["model"]["merges"] if "".join(m) in spec["model"]["vocab"]]
    alone = extend(Tokenizer.from_spec(spec), texts, 5)
    assert not any(any(48 <= byte < 58 for byte in alone.tokenizer.surface(int(i))) for i in alone.new_ids)


def test_ignore_merges_changes_nothing(tokenizers):
    spec = tokenizers["byte-bpe"].editable()
    spec["model"]["ignore_merges"] = True
    change = extend(Tokenizer.from_spec(spec), NEW, 40)
    plain = extend(tokenizers["byte-bpe"], NEW, 40)
    assert change.unreachable == []
    assert [change.tokenizer.pieces[i] for i in change.new_ids] == [plain.tokenizer.pieces[i] for i in plain.new_ids]


def test_extending_is_deterministic_and_keeps_the_merge_format(tokenizers):
    spec = tokenizers["byte-bpe"].editable()
    spec["model"]["merges"] = [" ".join(merge) for merge in spec["model"]["merges"]]
    old = Tokenizer.from_spec(spec)
    first, second = extend(old, NEW, 20).tokenizer, extend(old, NEW, 20).tokenizer
    assert first.spec == second.spec
    assert all(isinstance(merge, str) for merge in first.model["merges"])
    assert first.model["merges"][: len(spec["model"]["merges"])] == spec["model"]["merges"]
    assert first.encode(NEW[0]) == extend(tokenizers["byte-bpe"], NEW, 20).tokenizer.encode(NEW[0])


def test_minilm_keeps_english_exactly(minilm):
    words = make_texts(5, syllables=["cardio", "phon", "gluco", "strep", "itis", "neph"])
    change = extend(minilm, words, 60)
    assert change.unreachable == []
    english = "The quick brown fox jumps over the lazy dog; it's raining in 2024 (again)."
    assert change.tokenizer.encode(english) == minilm.encode(english)
    assert sum(map(len, change.tokenizer.encode_batch(words))) < 0.6 * sum(map(len, minilm.encode_batch(words)))
    lines = change.tokenizer.companions["vocab.txt"].decode().splitlines()
    assert {line: i for i, line in enumerate(lines)} == change.tokenizer.vocab


def test_too_much_and_too_little_are_refused(tokenizer):
    for size in (0, -3):
        with pytest.raises(ParameterError, match="1 or more"):
            extend(tokenizer, NEW, size)
    with pytest.raises(TokenizerError, match=r"asked for 100000 new pieces, the corpus supports \d+: use --extend \d+ or more text"):
        extend(tokenizer, NEW, 100_000)
    with pytest.raises(TokenizerError, match="no pair of pieces"):
        extend(tokenizer, ["."], 5)
    with pytest.raises(ParameterError, match="route 'sideways'"):
        extend(tokenizer, NEW, 5, route="sideways")


def test_the_number_it_says_is_supported_is_supported(tokenizers):
    few = NEW[:5]
    for tokenizer in tokenizers.values():
        with pytest.raises(TokenizerError) as caught:
            extend(tokenizer, few, 100_000)
        supported = int(str(caught.value).split("supports ")[1].split(":")[0])
        assert len(extend(tokenizer, few, supported).new_ids) == supported


@pytest.mark.parametrize(
    ("name", "kind", "config"),
    [
        ("byte-bpe", "GPT2Tokenizer", {"unk_token": "<|end|>", "bos_token": "<|end|>", "eos_token": "<|end|>"}),
        ("sentencepiece-bpe", "LlamaTokenizer", {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "legacy": True}),
        ("wordpiece", "BertTokenizer", {}),
        ("unigram", "XLMRobertaTokenizer", {}),
        ("byte-bpe", "PreTrainedTokenizerFast", {}),
    ],
)
def test_transformers_reads_what_we_write(tokenizers, tmp_path, name, kind, config):
    from transformers import AutoTokenizer

    old = tokenizers[name].with_spec(tokenizers[name].spec, companions(tokenizer_class=kind, **config))
    change = extend(old, NEW, 40)
    change.tokenizer.save(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.encode(NEW[0], add_special_tokens=False) == change.tokenizer.encode(NEW[0])
    assert len(loaded) == change.tokenizer.vocab_size


def test_a_class_that_ignores_the_file_is_replaced_and_named(tokenizers):
    """GPT2Tokenizer rebuilds its own pre-tokenizer, so digits would no longer stand alone."""
    spec = tokenizers["byte-bpe"].editable()
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, spec["pre_tokenizer"]]}
    old = Tokenizer.from_spec(spec, companions(tokenizer_class="GPT2Tokenizer"))
    change = extend(old, NEW, 20)
    assert json.loads(change.tokenizer.companions["tokenizer_config.json"])["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert any("GPT2Tokenizer does not follow tokenizer.json" in note for note in change.notes)
    assert agrees_with_transformers(change.tokenizer, ["it is 2024", *NEW[:5]])
