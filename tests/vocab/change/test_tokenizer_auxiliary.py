"""Merging in an auxiliary tokenizer: pieces in the order of its merges, none of them dead."""

import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from regraft.errors import TokenizerError
from regraft.tokenizer import Tokenizer, check_reachability
from regraft.vocab.change import extend
from regraft.vocab.change.rewrite import read_merges
from regraft.vocab.change.routes.auxiliary import train_auxiliary
from toys.text import NEW

JAPANESE = [*["東京 大学 漢字"] * 3, *["東京 大学"] * 4, *["東京"] * 5]


def pieces(change) -> list[str]:
    return [change.tokenizer.pieces[int(i)] for i in change.new_ids]


def byte_bpe(*merges: tuple[str, str]) -> Tokenizer:
    """Byte-level BPE of the 256 bytes and these merges."""
    vocab = {piece: i for i, piece in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)])}
    backend = Backend(models.BPE(vocab=vocab, merges=list(merges)))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return Tokenizer.from_spec(json.loads(backend.to_str()))


@pytest.mark.parametrize("order", ["new-first", "old-first"])
def test_auxiliary_merging_adds_living_pieces_and_keeps_ids(tokenizer, order):
    change = extend(tokenizer, NEW, 30, route=order)
    assert change.tokenizer.vocab_size == tokenizer.vocab_size + 30
    assert {piece: change.tokenizer.vocab[piece] for piece in tokenizer.vocab} == tokenizer.vocab
    assert change.unreachable == check_reachability(change.tokenizer, change.new_ids.tolist(), NEW) == []


def learned_merges(old: Tokenizer, texts: list[str]) -> list[tuple[str, str]]:
    return train_auxiliary(old, texts, min_frequency=2).merges


@pytest.mark.parametrize("order", ["new-first", "old-first"])
def test_the_walk_takes_a_then_b_then_ab_in_merge_order(tokenizers, order):
    old = tokenizers["sentencepiece-bpe"]
    assert learned_merges(old, JAPANESE)[:3] == [("▁", "東"), ("▁東", "京"), ("▁", "大")]
    assert pieces(extend(old, JAPANESE, 6, route=order)) == ["東", "▁東", "京", "▁東京", "大", "▁大"]


def test_byte_level_pieces_are_what_the_merges_need(tokenizers):
    old = tokenizers["byte-bpe"]
    expected = dict.fromkeys(piece for a, b in learned_merges(old, NEW) for piece in (a, b, a + b) if piece not in old.vocab)
    assert pieces(extend(old, NEW, 30, route="new-first")) == list(expected)[:30]


def test_wordpiece_takes_merges_before_the_characters_that_they_do_not_need(tokenizers):
    chosen = pieces(extend(tokenizers["wordpiece"], NEW, 2, route="new-first"))
    assert all(len(piece.removeprefix("##")) > 1 for piece in chosen)


def test_characters_that_no_merge_needs_follow_by_their_count(tokenizers):
    for name in ("sentencepiece-bpe", "wordpiece"):
        change = extend(tokenizers[name], ["大 漢 字", "漢 大", "漢"], 3, route="new-first", min_frequency=100)
        assert pieces(change) == ["漢", "大", "字"], name


def test_steps_towards_used_pieces_stay_though_no_text_ends_in_them(tokenizers):
    change = extend(tokenizers["sentencepiece-bpe"], JAPANESE, 6, route="new-first")
    assert {"東", "▁東", "京", "▁東京"} <= set(pieces(change))
    assert change.tokenizer.encode("東京") == [change.tokenizer.vocab["▁東京"]]


def test_new_first_merges_before_the_old_and_old_first_behind_them():
    old = byte_bpe(("b", "c"), ("d", "e"))
    texts = ["ab"] * 3 + ["xy"] * 2
    first, last = (extend(old, texts, 2, route=order).tokenizer for order in ("new-first", "old-first"))
    assert read_merges(first) == [("a", "b"), ("x", "y"), ("b", "c"), ("d", "e")]
    assert read_merges(last) == [("b", "c"), ("d", "e"), ("a", "b"), ("x", "y")]
    cuts = [[tokenizer.pieces[i] for i in tokenizer.encode("abc")] for tokenizer in (first, last)]
    assert cuts == [["ab", "c"], ["a", "bc"]]


def test_pieces_that_old_merges_keep_from_forming_make_room_for_the_next():
    """`abc` is learned as `ab` + `c`, but behind the old merge of `b` and `c` it never forms, and nothing is built on it."""
    old = byte_bpe(("b", "c"))
    texts = ["abcd"] * 5 + ["abc"] * 6 + ["xy"] * 3 + ["zw"] * 2
    assert learned_merges(old, texts)[:3] == [("a", "b"), ("ab", "c"), ("abc", "d")]
    assert pieces(extend(old, texts, 4, route="new-first")) == ["ab", "abc", "abcd", "xy"]
    change = extend(old, texts, 3, route="old-first")
    assert pieces(change) == ["ab", "xy", "zw"]
    assert change.unreachable == []
    assert "2 candidate pieces that no text would produce were left out" in change.notes


def test_fewer_pieces_are_added_where_the_others_are_dead_and_the_notes_say_so():
    old = byte_bpe(("b", "c"))
    texts = ["abcd"] * 5 + ["abc"] * 6 + ["xy"] * 3
    change = extend(old, texts, 4, route="old-first")
    assert pieces(change) == ["ab", "xy"]
    assert "2 of the 4 pieces asked for were added: no text would produce the 2 others that were tried" in change.notes
    with pytest.raises(TokenizerError, match="asked for 5 new pieces, the corpus supports 4"):
        extend(old, texts, 5, route="old-first")
    for none in (["abc"] * 2, ["q"]):
        with pytest.raises(TokenizerError, match="asked for 1 new pieces, the corpus supports none"):
            extend(byte_bpe(("b", "c"), ("a", "b")), none, 1, route="old-first")


@pytest.mark.parametrize("name", ["sentencepiece-bpe", "wordpiece", "unigram"])
def test_pieces_that_the_text_never_uses_make_room_for_the_next(tokenizers, name):
    """Where old pieces come first they keep some new ones from use; what stays is used, or a step towards what is."""
    change = extend(tokenizers[name], NEW, 40, route="old-first")
    used = {i for ids in change.tokenizer.encode_batch(NEW) for i in ids}
    idle = {piece for piece in pieces(change) if change.tokenizer.vocab[piece] not in used}
    steps = {part for a, b in (change.tokenizer.model.get("merges") or []) for part in (a, b)}
    assert idle <= steps
