"""Combining marks: found where they cut words, and joined to their letters without touching other text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import TokenizerError
from regraft.tokenizer import Tokenizer, measure_segmentation, scripts_cut_at_marks, widen_pretokenizer
from regraft.tokenizer.pretokenizer import LETTERS, unicode_script, widen_pattern
from regraft.vocab.change import extend
from toys.text import NEW, OLD, companions

SINHALA = ["සිංහල භාෂාව ලංකාවේ භාෂාවකි", "ශ්‍රී ලංකාවේ ජනතාව"] * 20
HINDI = ["हिन्दी भाषा भारत की भाषा है"] * 20
DECOMPOSED = ["tie\u0302\u0301ng Vie\u0323\u0302t"] * 20
WITHOUT_MARKS = st.text(alphabet=st.characters(exclude_categories=["Cs", "Mn", "Mc", "Me"]), max_size=60)


@pytest.fixture(params=["gpt2", "gpt4"])
def patterned(request, tokenizers, gpt4_pattern):
    return tokenizers["byte-bpe"] if request.param == "gpt2" else gpt4_pattern


def test_scripts_that_are_cut_are_found_and_counted(patterned):
    assert scripts_cut_at_marks(patterned, [*HINDI, *SINHALA[:2], *OLD]) == {"Devanagari": 120, "Sinhala": 7}
    assert scripts_cut_at_marks(patterned, DECOMPOSED) == {"Latin": 40}
    assert scripts_cut_at_marks(patterned, OLD + NEW) == {}
    assert (unicode_script("ක"), unicode_script("ห"), unicode_script("ᱚ")) == ("Sinhala", "Thai", "Ol Chiki")


def test_tokenizers_that_do_not_cut_are_not_accused(tokenizers):
    for name in ("sentencepiece-bpe", "unigram", "wordpiece"):
        assert scripts_cut_at_marks(tokenizers[name], HINDI + SINHALA) == {}
        assert widen_pretokenizer(tokenizers[name]) is tokenizers[name]


def test_widening_joins_words_and_changes_no_text_without_marks(patterned):
    wide = widen_pretokenizer(patterned)
    assert scripts_cut_at_marks(wide, [*HINDI, *SINHALA, *DECOMPOSED]) == {}
    effect = measure_segmentation(patterned, wide, OLD)
    assert (effect.texts, effect.texts_changed, effect.words_changed) == (len(OLD), 0, 0)

    @given(text=WITHOUT_MARKS)
    @settings(max_examples=150, deadline=None)
    def check(text):
        assert wide.encode(text) == patterned.encode(text)

    check()
    # a variation selector follows a symbol, not a letter: nothing to join
    assert wide.encode("❤️ and 1️⃣") == patterned.encode("❤️ and 1️⃣")


@given(text=st.text(max_size=40, alphabet=st.characters(exclude_categories=["Cs"])))
@settings(max_examples=60, deadline=None)
def test_widened_text_decodes_to_itself(tokenizers, text):
    wide = widen_pretokenizer(tokenizers["byte-bpe"])
    assert wide.decode(wide.encode(text)) == text


def test_widening_lets_pieces_cross_marks(patterned):
    narrow, wide = extend(patterned, HINDI, 15, min_frequency=1), extend(patterned, HINDI, 15, min_frequency=1, widen=True)
    tokens = [len(change.tokenizer.encode(HINDI[0])) for change in (narrow, wide)]
    assert tokens[1] < tokens[0]
    assert wide.unreachable == []
    assert any("Devanagari (120 words)" in note and "--widen-pretokenizer" in note for note in narrow.notes)
    assert any("pre-tokenizer widened: 20 of 20 texts" in note or "widened: 0 of" in note for note in wide.notes)


def test_a_widened_pretokenizer_survives_transformers(tokenizers, tmp_path):
    from transformers import AutoTokenizer

    old = tokenizers["byte-bpe"].with_spec(tokenizers["byte-bpe"].spec, companions(tokenizer_class="GPT2Tokenizer", unk_token="<|end|>"))
    change = extend(old, HINDI, 25, min_frequency=1, widen=True)
    assert json.loads(change.tokenizer.companions["tokenizer_config.json"])["tokenizer_class"] == "PreTrainedTokenizerFast"
    change.tokenizer.save(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).encode(HINDI[0]) == change.tokenizer.encode(HINDI[0])


def test_patterns_are_widened_only_outside_brackets():
    assert widen_pattern(r" ?\p{L}+|[^\s\p{L}\p{N}]+|[\p{L}\p{M}]+") == " ?" + LETTERS + r"|[^\s\p{L}\p{N}]+|[\p{L}\p{M}]+"


def test_a_prefix_space_cannot_be_widened(tokenizers):
    spec = json.loads(json.dumps(tokenizers["byte-bpe"].spec))
    spec["pre_tokenizer"]["add_prefix_space"] = True
    with pytest.raises(TokenizerError, match="add_prefix_space"):
        widen_pretokenizer(Tokenizer.from_spec(spec))
