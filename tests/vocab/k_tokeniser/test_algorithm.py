"""Steps B, C, D, F and G in closed form, and knowledge BPE beside a plain transcription of its rule."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.vocab.initializers.k_tokeniser import KTokeniserStart
from regraft.vocab.k_tokeniser.build import candidate_pieces, keep_pieces
from regraft.vocab.k_tokeniser.choice import BASE, choose, entropy, roll_back, threshold
from regraft.vocab.k_tokeniser.kbpe import cut_greedily, cut_word, learn_pieces, split_syllables
from regraft.vocab.k_tokeniser.ngrams import count_ngrams, distinct_ngrams
from regraft.vocab.k_tokeniser.sufficient import delta_curve

WORDS = st.text("abcde", min_size=1, max_size=9)


def test_ngrams_of_aba_by_hand():
    # n=1: a b a; n=2: ab ba a|; n=3: aba ba| a|
    assert count_ngrams({"aba": 1}) == {"a": 4, "b": 1, "ab": 1, "ba": 2, "aba": 1}
    assert count_ngrams({"aba": 3}, truncate=False) == {"a": 6, "b": 3, "ab": 3, "ba": 3, "aba": 3}


@given(word=WORDS)
def test_ngrams_follow_the_enumeration(word):
    places = [(n, i) for n in range(1, len(word) + 1) for i in range(len(word))]
    table = count_ngrams({word: 1})
    assert sum(table.values()) == len(word) ** 2
    assert all(table[gram] == sum(word[i : i + n] == gram for n, i in places) for gram in table)
    assert list(distinct_ngrams(word)) == list(dict.fromkeys(word[i : i + n] for n, i in places))


def test_kbpe_by_hand():
    # strings a b| 5, b c| 3, a b c| 1; pairs (a b|) 5, (b c|) 4, (a b) 1; after both merges (a bc|) weighs 1: too little
    assert learn_pieces("abc", {"ab": 5, "bc": 3, "abc": 1}) == ["ab", "bc"]
    assert cut_word("abc", {"ab": 5, "bc": 3, "abc": 1}) == ["ab", "c"]
    assert learn_pieces("abc", {}, merges=0) == []
    assert cut_word("abc", {}, merges=0) == ["a", "b", "c"]


def test_kbpe_of_albumin():
    # only "al" and "min" carry weight: (a l|) 20 first; then (m i) and (i n|) tie at 10 + 10 absent n-grams, the first met wins
    weights = {"al": 20, "min": 10}
    pieces = learn_pieces("albumin", weights)
    assert pieces == transcribed("albumin", weights, 20)
    assert pieces[0] == "al"
    assert "".join(cut_word("albumin", weights)) == "albumin"


def transcribed(word, frequencies, merges):
    """The rule as it is written, everything counted anew each time."""
    strings = [([*gram[:-1], gram[-1] + "</w>"], frequencies.get(gram, 1)) for gram in distinct_ngrams(word)]
    learned = {}
    for _ in range(merges):
        pairs = {}
        for symbols, weight in strings:
            for pair in dict.fromkeys(pairwise(symbols)):
                pairs[pair] = pairs.get(pair, 0) + weight
        best = max(pairs, key=pairs.get, default=None)
        if best is None or pairs[best] < 2:
            break
        learned["".join(best).replace("</w>", "")] = None
        for symbols, _ in strings:
            i = 0
            while i + 1 < len(symbols):
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = ["".join(best)]
                i += 1
    return list(learned)


@given(words=st.lists(WORDS, min_size=1, max_size=4), merges=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_kbpe_is_its_transcription(words, merges):
    table = count_ngrams({word: 1 + i for i, word in enumerate(dict.fromkeys(words))})
    for word in words:
        assert learn_pieces(word, table, merges) == transcribed(word, table, merges)
        assert "".join(cut_word(word, table, merges=merges)) == word


def test_greedy_cut_prefers_long_pieces_up_to_five():
    assert cut_greedily("albumin", ["al", "albu", "umin", "min"]) == ["albu", "min"]
    assert cut_greedily("abcdefg", ["abcdef", "abc", "defg"]) == ["abc", "defg"]
    assert cut_greedily("xyz", []) == ["x", "y", "z"]


SYLLABLES = {
    "albu": ["alb", "u"],
    "metop": ["me", "to", "p"],
    "oste": ["ost", "e"],
    "hypo": ["hy", "po"],
    "stri": ["stri"],
    "b12": ["b", "1", "2"],
}


@pytest.mark.parametrize(("piece", "parts"), SYLLABLES.items())
def test_syllables(piece, parts):
    assert split_syllables(piece) == parts


@given(piece=st.text(min_size=1, max_size=8))
def test_syllables_cover_the_piece(piece):
    assert "".join(split_syllables(piece)) == piece


def test_only_a_long_first_piece_is_split_into_syllables():
    weights = {"metop": 90, "rolol": 80}
    assert cut_word("metoprolol", weights, syllables_from=99)[0] == "metop"
    assert cut_word("metoprolol", weights)[:3] == ["me", "to", "p"]
    assert cut_word("metoprolol", weights)[3:] == cut_word("metoprolol", weights, syllables_from=99)[1:]


def test_delta_curve_in_closed_form():
    curve = delta_curve({"a": 1, "b": 2, "c": 997})
    assert [point.k for point in curve] == list(range(1, 11))
    assert curve[0].delta == pytest.approx(0.001 + 1e-6)
    assert [point.size for point in curve] == [2] * 10
    assert curve[0].entropy == pytest.approx(-(0.002 * math.log(0.002) + 0.997 * math.log(0.997)))
    assert delta_curve({}) == []


def test_delta_grows_past_pieces():
    # shares 1, 2.5 and 5.5 in a million and the rest: the second lies above the smallest by 1.5e-6, the third by 4.5e-6
    curve = delta_curve({"a": 2, "b": 5, "c": 11, "d": 1_999_982})
    assert [point.size for point in curve] == [3, 2, 2, 2, 1, 1, 1, 1, 1, 1]


def test_pieces_are_kept_by_frequency_or_as_released_by_alphabet():
    candidates = {"##b": 9, "c": 9, "a": 1, "d": 50}
    curve = delta_curve(candidates)
    assert keep_pieces(candidates, curve, KTokeniserStart(pieces=3), "x") == ["d", "##b", "c"]
    assert keep_pieces(candidates, curve, KTokeniserStart(pieces=3, compat="released"), "x") == ["##b", "a", "c"]
    assert len(keep_pieces(candidates, curve, KTokeniserStart(), "x")) == curve[0].size == 3
    assert len(keep_pieces(candidates, curve, KTokeniserStart(pieces={"x": 0.34}), "x")) == 1


def test_initial_piece_by_position_or_as_released_by_letter():
    table = {"aba": 1, "a": 4, "b": 2}
    assert set(candidate_pieces({"aba": 1}, table, KTokeniserStart(merges=0))) == {"a", "##b", "##a"}
    assert set(candidate_pieces({"aba": 1}, table, KTokeniserStart(merges=0, compat="released"))) == {"a", "##b"}


def test_entropy_in_closed_form():
    assert entropy(0, 4) == pytest.approx(0.5)
    assert entropy(1, 8) == pytest.approx(0.5)
    assert threshold(1, 4) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("base", "types", "expected"),
    [
        (0.5, [0.3, 0.4], 0),
        (0.5, [0.4, 0.3], 1),
        (0.2, [0.3, 0.4], BASE),
        (0.3, [0.3, 0.3], 0),  # ties: a, b, c
        (0.3, [0.4, 0.3], 1),
        (0.5, [0.05, 0.09], BASE),  # neither type knows the word
        (0.5, [0.05, 0.3], 0),  # one does: the smallest wins, as the paper's rule reads
        (math.inf, [None, 0.3], 1),  # an unknown segmentation never wins
        (0.5, [None, None], BASE),
        (math.inf, [], BASE),
    ],
)
def test_word_choice(base, types, expected):
    assert choose(base, types, h0=0.1) == expected


@pytest.mark.parametrize(
    ("base", "chosen", "phi", "back"),
    [
        (10, 10, 0, True),
        (10, 5, 0, True),
        (10, 5, 1.0, False),
        (10, 15, 1.0, False),
        (10, 9, 0.065, True),
        (100, 95, 0.065, False),
        (100, 93, 0.07, True),  # r = phi
        (10, 11, 0.065, True),  # r < 0
        (10, 10, 0.035, False),
        (0, 0, 0.5, False),
    ],
)
def test_roll_back_regimes(base, chosen, phi, back):
    assert roll_back(base, chosen, phi) is back


def test_roll_back_as_released():
    assert not roll_back(10, 11, 0.065, released=True)
    assert not roll_back(100, 93, 0.07, released=True)
    assert roll_back(100, 92, 0.07, released=True)
