"""Tokens out of use: other pieces spell their bytes, every id stays, and what cannot be spared is refused."""

import pytest

from regraft.errors import TokenizerError
from regraft.vocab.change import without
from regraft.vocab.change.without import dispensable
from toys.tokenizers import byte_bpe, character_bpe, fallback_bpe, wordpiece

TOKENIZERS = {
    "byte-bpe": lambda: byte_bpe(["t h", "th e", "Ġ the", "a b"]),
    "fallback": lambda: fallback_bpe(["t h", "th e", "▁ the", "a b"]),
    "characters": lambda: character_bpe(["t h", "th e", "▁ the", "a b"]),
    "wordpiece": lambda: wordpiece([*"abcehmort", *(f"##{c}" for c in "abcehmort"), "the", "th", "##he", "ab"]),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_other_pieces_spell_the_same_text_and_ids_stay(name):
    old = TOKENIZERS[name]()
    chosen = [i for i, piece in old.pieces.items() if piece.strip("Ġ▁") == "the"]
    assert chosen
    assert set(chosen) & set(old.encode("the ab the thethe"))
    changed = without(old, chosen)
    text = "the ab the thethe"
    assert not set(chosen) & set(changed.encode(text))
    assert changed.decode(changed.encode(text)).replace(" ", "") == old.decode(old.encode(text)).replace(" ", "")
    same = {i: piece for i, piece in old.pieces.items() if i not in chosen}
    assert {i: changed.pieces[i] for i in same} == same
    assert changed.vocab_size == old.vocab_size
    assert changed.encode("ab") == old.encode("ab")
    assert old.encode(text) == TOKENIZERS[name]().encode(text)


def test_a_word_taken_whole_is_taken_apart_too():
    spec = byte_bpe(["t h", "th e"]).editable()
    spec["model"]["ignore_merges"] = True
    old = byte_bpe().with_spec(spec)
    assert len(old.encode("the")) == 1
    assert len(without(old, [old.vocab["the"]]).encode("the")) == 2


def test_pieces_in_between_go_with_what_they_lead_over():
    old = byte_bpe(["t h", "th e", "the m"])
    assert [old.pieces[i] for i in without(old, [old.vocab["the"]]).encode("them")] == ["th", "e", "m"]


@pytest.mark.parametrize(
    ("make", "token", "message"),
    [
        (lambda: byte_bpe(["t h"]), "a", "id .* \\('a'\\) cannot be spelled without itself"),
        (lambda: byte_bpe(["t h"]), "<s>", "'<s>', an added token"),
        (lambda: wordpiece(["abc", "a"]), "abc", "cannot be spelled without itself"),
        (lambda: character_bpe(["t h"]), 10_000, "id 10000 is not a token"),
    ],
)
def test_what_cannot_be_spared_is_refused(make, token, message):
    tokenizer = make()
    with pytest.raises(TokenizerError, match=message):
        without(tokenizer, [tokenizer.vocab.get(token, token)])


def test_dispensable_leaves_out_what_the_rest_needs():
    old = byte_bpe(["t h", "th e"])
    ids = [old.vocab[piece] for piece in ("<s>", "t", "th", "the")]
    assert dispensable(old, [*ids, 9999]) == sorted([old.vocab["th"], old.vocab["the"]])
