import json
import random

import numpy as np
import pytest
from scipy import sparse

from regraft.errors import CorpusError, ParameterError
from regraft.tokenizer import Tokenizer
from regraft.vocab.initializers.trans_tokenizer import TransTokenizer
from regraft.vocab.initializers.trans_tokenizer.method import copy_votes, cut_words, number_pairs, spread
from regraft.vocab.initializers.trans_tokenizer.substrings import VOTE, longest_parts, smooth, starting_with
from toys.tokenizers import fallback_bpe, target
from toys.vocabularies import row_of, situation, word_tokenizer

OLD = word_tokenizer("cat dog tree house 1 2 12 ##2")
NEW = word_tokenizer("mè ##o ch ##ó cây dog kitt mèokitt 1 2 ##2")


@pytest.fixture
def bitext(tmp_path):
    translation = {"cat": "mèo", "dog": "chó", "tree": "cây", "house": "zz"}
    draw = random.Random(0)
    lines = [draw.sample(list(translation), 3) for _ in range(100)]
    (tmp_path / "b.en").write_text("\n".join(map(" ".join, lines)), "utf-8")
    (tmp_path / "b.vi").write_text("\n".join(" ".join(translation[word] for word in line) for line in lines), "utf-8")
    return tmp_path / "b.en", tmp_path / "b.vi"


def test_half_all_to_all_and_half_in_order():
    votes = spread([((0, 1, 2), (5, 6)), ((3,), (7,))], np.array([12.0, 4.0]), (4, 8)).toarray()
    # 6 votes over 6 pairs; 6 over 0-5, 0-5, 1-5, 1-6, 2-6, 2-6 of both lists stretched to 6
    expected = np.zeros((4, 8))
    expected[:3, 5:7] = [[1 + 2, 1], [1 + 1, 1 + 1], [1, 1 + 2]]
    expected[3, 7] = 4
    assert np.allclose(votes, expected)
    assert votes.sum() == pytest.approx(16)


def test_words_are_joined_from_pieces():
    assert cut_words(NEW, ["mèo dog"]) == [[(NEW.vocab["mè"], NEW.vocab["##o"]), (NEW.vocab["dog"],)]]


def test_numbers_are_pairs_of_words():
    pairs = number_pairs(OLD, NEW)
    assert ((NEW.vocab["1"], NEW.vocab["##2"]), (OLD.vocab["12"],)) in pairs
    assert len(pairs) == 2 * 8  # 1 or 2 and up to three 2s, cut alike on their own and after a space ...
    assert all(OLD.unknown_id not in old for _, old in pairs)  # ... and other digits are unknown to both


def test_rows_come_from_the_pieces_of_translations(bitext):
    source, target, context = situation(OLD, NEW, bitext=bitext)
    graft = TransTokenizer()(source, target, context)
    assert graft.explain(row_of(target, "cây")) == [(OLD.vocab["tree"], 1.0)]
    assert graft.explain(row_of(target, "ch")) == [(OLD.vocab["dog"], 1.0)]
    assert graft.explain(row_of(target, "mè")) == [(OLD.vocab["cat"], 1.0)]
    assert graft.certificate().inside == 1.0


def test_smoothing_takes_longest_parts_and_what_starts_alike(bitext):
    source, target, context = situation(OLD, NEW, bitext=bitext)
    row = row_of(target, "mèokitt")
    smoothed = dict(TransTokenizer()(source, target, context).explain(row))
    # longest linked parts: "mè" and "o" (both linked to "cat", "o" also itself), then "k", "i", "t", "t" (only themselves)
    assert smoothed[OLD.vocab["cat"]] == pytest.approx(2 / 6, abs=0.01)
    letters = {letter: smoothed.get(OLD.vocab[letter], 0) + smoothed.get(OLD.vocab[f"##{letter}"], 0) for letter in "kit"}
    assert letters == pytest.approx({"k": 1 / 6, "i": 1 / 6, "t": 2 / 6})
    assert sum(smoothed.values()) == pytest.approx(1)
    plain = dict(TransTokenizer(smoothing=False)(source, target, context).explain(row))
    assert plain == pytest.approx({piece: target.pieces[row].count(piece) / len(target.pieces[row]) for piece in target.pieces[row]})


def test_smoothing_by_hand():
    _, target, _ = situation(OLD, NEW)
    votes = sparse.lil_matrix((NEW.vocab_size, OLD.vocab_size))
    votes[NEW.vocab["mè"], [4, 5]] = [0.25, 0.75]
    votes[NEW.vocab["mèokitt"], 6] = 1
    weights = sparse.csr_matrix((len(target), OLD.vocab_size))
    filled = smooth(votes.tocsr(), weights, target).toarray()
    assert filled[row_of(target, "mè")][[4, 5, 6]].tolist() == pytest.approx([0.125, 0.375, 0.5])  # itself, and what starts with it
    assert filled[row_of(target, "kitt")].sum() == 0
    assert VOTE == 1000


def test_translations_that_begin_a_word_count_twice_whatever_the_token_between():
    old, new = fallback_bpe(["a b", "▁ ab"]), fallback_bpe(["x y", "▁ xy", "xy z", "▁xy z"])
    aim = target(old, new, ["xy", "▁xy"])
    votes = sparse.lil_matrix((new.vocab_size, old.vocab_size))
    for word in ("xyz", "▁xyz"):
        votes[new.vocab[word], [old.vocab["ab"], old.vocab["▁ab"]]] = [0.5, 0.5]
    filled = smooth(votes.tocsr(), sparse.csr_matrix((2, old.vocab_size)), aim).toarray()
    assert filled[:, [old.vocab["ab"], old.vocab["▁ab"]]].tolist() == [pytest.approx([1 / 3, 2 / 3])] * 2


def test_parts_and_beginnings():
    linked = {b"ab": 0, b"b": 1, b"bcd": 2, b"d": 3, b"e": 4}
    assert longest_parts(linked, b"abcdxe") == [b"ab", b"bcd", b"e"]
    assert longest_parts(linked, b"ab") == [b"ab"]
    ordered = sorted([b"a", b"ab", b"abc", b"b", b"\xff", b"ab\xff\xff"])
    assert starting_with(ordered, b"ab") == [b"abc", b"ab\xff\xff"]
    assert starting_with(ordered, b"\xff") == []


def test_identical_and_special_tokens_vote_for_themselves():
    _, target, _ = situation(OLD, NEW)
    votes = copy_votes(target, (NEW.vocab_size, OLD.vocab_size))
    assert votes[NEW.vocab["dog"], OLD.vocab["dog"]] == 1
    assert votes[NEW.vocab["[CLS]"], OLD.vocab["[CLS]"]] == 1e9


def named(words, **roles):
    """Special tokens in the order given, called what their companion file says."""
    config = json.dumps({f"{role}_token": token for role, token in roles.items()}).encode()
    return Tokenizer.from_spec(word_tokenizer(words, ("[UNK]", *roles.values())).spec, {"tokenizer_config.json": config})


def test_special_tokens_go_by_role_and_a_mask_may_take_the_row_of_padding(bitext):
    new = named("mèo chó cây", mask="<mask>", eos="</s>", pad="<pad>", bos="<s>")
    old = named("cat dog tree house", cls="[CLS]", sep="[SEP]", pad="[PAD]")
    source, aim, context = situation(old, new, bitext=bitext)
    votes = copy_votes(aim, (new.vocab_size, old.vocab_size))
    for one, other in {"<mask>": "[PAD]", "<pad>": "[PAD]", "<s>": "[CLS]", "</s>": "[SEP]", "[UNK]": "[UNK]"}.items():
        assert votes[new.vocab[one]].toarray()[0].nonzero()[0].tolist() == [old.vocab[other]]
        assert votes[new.vocab[one], old.vocab[other]] == 1e9
    graft = TransTokenizer()(source, aim, context)
    assert graft.explain(row_of(aim, "<mask>")) == [(old.vocab["[PAD]"], 1.0)]


def test_a_mask_of_its_own_is_kept():
    old = named("cat", pad="[PAD]", mask="[MASK]")
    _, aim, _ = situation(old, named("mèo", mask="<mask>", pad="<pad>"))
    votes = copy_votes(aim, (aim.tokenizer.vocab_size, old.vocab_size))
    assert votes[aim.tokenizer.vocab["<mask>"]].indices.tolist() == [old.vocab["[MASK]"]]


def test_tokens_without_a_link_are_said(bitext):
    source, aim, context = situation(OLD, NEW, bitext=bitext)
    TransTokenizer(smoothing=False)(source, aim, context)
    TransTokenizer(smoothing=False, fallback="unknown")(source, aim, context)
    first, second = context.notes
    assert "the parallel text has no link for 2 of the" in first
    assert first.endswith("('kitt', 'mèokitt'): they take the mean of their old pieces")
    assert second.endswith("they take the row of the unknown token")


def test_unknown_fallback_and_bad_input(bitext):
    source, target, context = situation(OLD, NEW, bitext=bitext)
    graft = TransTokenizer(smoothing=False, fallback="unknown")(source, target, context)
    assert graft.explain(row_of(target, "kitt")) == [(OLD.unknown_id, 1.0)]
    with pytest.raises(CorpusError, match=r"no pair of words is linked 500 times \(at most \d+\) in 100 lines"):
        TransTokenizer(min_count=500)(source, target, context)
    with pytest.raises(ParameterError, match="--bitext"):
        TransTokenizer()(*situation(OLD, NEW))
