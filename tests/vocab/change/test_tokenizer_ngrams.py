"""N-gram tokens: the greedy choice against brute force, segmentation of all other text, and old tokens that make room."""

import json
import random
from collections import Counter

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from regraft.errors import TokenizerError
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import agrees_with_transformers
from regraft.tokenizer.chunk_pattern import BYTE_LEVEL, alternatives, keep_whole, not_behind, takes_phrases
from regraft.vocab.change import extend
from regraft.vocab.change.routes.ngram_choice import TokenStream, choose_ngrams
from regraft.vocab.change.routes.ngram_route import least_needed
from regraft.vocab.initializer import Context, Source, Target
from regraft.vocab.initializers.constituent_exponential import ConstituentExponential, exponential_weights
from toys import tokenizers as toy_tokenizers
from toys.text import NEW, OLD, SYLLABLES, companions, make_texts, make_words

BPE = ["byte-bpe", "sentencepiece-bpe", "gpt4"]
GPT4 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def bytes_only(pre_tokenizer):
    backend = Backend(models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]))
    backend.pre_tokenizer = pre_tokenizer
    return Tokenizer.from_spec(json.loads(backend.to_str()))


PATTERNS = {
    "byte-bpe": bytes_only(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "gpt4": bytes_only(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(GPT4), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    ),
}


def phrases(count=200):
    """Text in which words of the syllables that the tokenizers know go together."""
    draw, words = random.Random(5), make_words(5, 60)
    together = [" ".join(draw.sample(words, 3)) for _ in range(25)]
    return [" ".join([*draw.choices(together, k=4), *draw.choices(words, k=3)]) + draw.choice([".", "!", ", 42"]) for _ in range(count)]


DOMAIN = phrases()
TOGETHER = [" of the", " in the", ". A", ", of", " the.", "of of", " 12 of", "'s, A"]
KEPT = {name: old.with_spec({**old.spec, "pre_tokenizer": keep_whole(old, TOGETHER)}) for name, old in PATTERNS.items()}


@pytest.fixture(scope="session")
def family(tokenizers, gpt4_pattern):
    found = {name: tokenizers[name] for name in ("byte-bpe", "sentencepiece-bpe")} | {"gpt4": gpt4_pattern}
    return {name: t.with_spec(t.spec, companions(tokenizer_class="PreTrainedTokenizerFast")) for name, t in found.items()}


def stream_of(texts, chunk=None):
    """Texts given as lists of ids; `chunk(text, i)` numbers pre-tokens, by default one for each text."""
    ids, chunks, first = [], [], 0
    for text in texts:
        ids += [*text, -1]
        numbers = [chunk(text, i) if chunk else 0 for i in range(len(text))]
        chunks += [first + number for number in numbers] + [first + max(numbers, default=0) + 1]
        first = chunks[-1] + 1
    return TokenStream(np.array([*ids, -1]), np.array([*chunks, first]))


def brute_force(texts, longest, least, count):
    """The same choice by looking at everything each time."""
    texts = [list(text) for text in texts]
    chosen = []
    while len(chosen) < count:
        found = {}
        offset = 0
        for text in texts:
            for n in range(2, longest + 1):
                ends = {}
                for i in range(len(text) - n + 1):
                    ngram = tuple(text[i : i + n])
                    if None in ngram:
                        continue
                    first = found.setdefault(ngram, [0, offset + i])
                    if i >= ends.get(ngram, 0):
                        first[0] += 1
                        ends[ngram] = i + n
            offset += len(text) + 1
        best = min(((-c * (len(g) - 1), len(g), first, g) for g, (c, first) in found.items() if c >= least), default=None)
        if best is None:
            return chosen
        score, n, _, ngram = best
        chosen.append((ngram, -score // (n - 1)))
        for text in texts:
            i = 0
            while i <= len(text) - n:
                if tuple(text[i : i + n]) == ngram:
                    text[i : i + n] = [None] * n
                    i += n
                else:
                    i += 1
    return chosen


class TestChoice:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.lists(st.integers(0, 3), max_size=25), min_size=1, max_size=4), st.integers(2, 4))
    def test_saved_tokens_are_those_of_the_choice_that_looks_at_everything(self, texts, longest):
        """Ties apart (which of equal n-grams goes first may change what is left), each step saves what the best of all saves."""
        chosen = list(choose_ngrams(stream_of(texts), lambda token: True, longest=longest, min_frequency=2))
        taken = [list(text) for text in texts]
        for ngram in chosen:
            best = brute_force(taken, longest, 2, 1)[0]
            assert ngram.saved == best[1] * (len(best[0]) - 1)
            n = len(ngram.ids)
            count = 0
            for text in taken:
                i = 0
                while i <= len(text) - n:
                    if tuple(text[i : i + n]) == ngram.ids:
                        text[i : i + n] = [None] * n
                        count, i = count + 1, i + n
                    else:
                        i += 1
            assert count == ngram.count
        assert not brute_force(taken, longest, 2, 1)

    def test_score_is_count_times_length_less_one(self):
        text = [[1, 2, 3], [1, 2, 3], [1, 2, 3], [4, 5], [4, 5], [4, 5], [4, 5]]
        chosen = list(choose_ngrams(stream_of(text), lambda token: True, longest=3, min_frequency=2))
        assert [(n.ids, n.count, n.saved) for n in chosen] == [((1, 2, 3), 3, 6), ((4, 5), 4, 4)]

    def test_what_overlaps_a_choice_is_not_counted_again(self):
        text = [[1, 2, 3]] * 3 + [[2, 3]] * 2 + [[1, 2]] * 2
        chosen = {n.ids: n.count for n in choose_ngrams(stream_of(text), lambda token: True, longest=3, min_frequency=2)}
        assert chosen == {(1, 2, 3): 3, (1, 2): 2, (2, 3): 2}

    def test_a_run_of_one_token_is_counted_without_overlap(self):
        chosen = list(choose_ngrams(stream_of([[7] * 9]), lambda token: True, longest=2, min_frequency=2))
        assert [(n.ids, n.count) for n in chosen] == [((7, 7), 4)]

    def test_ngrams_hold_whole_pretokens_or_lie_within_one(self):
        words = [[1, 2, 3, 4]] * 5  # two pre-tokens of two tokens
        for crossing, expected in ((True, {(1, 2, 3, 4)}), (False, {(1, 2), (3, 4)})):
            found = choose_ngrams(
                stream_of(words, lambda text, i: i // 2), lambda token: True, longest=4, min_frequency=2, crossing=crossing
            )
            assert {n.ids for n in found} == expected

    def test_tokens_that_are_not_allowed_are_in_none(self):
        found = choose_ngrams(stream_of([[1, 2, 9, 1, 2]] * 3), lambda token: token != 9, longest=4, min_frequency=2)
        assert {n.ids for n in found} == {(1, 2)}

    def test_what_is_turned_down_leaves_its_text_to_others(self):
        text = [[1, 2, 3]] * 5
        found = choose_ngrams(stream_of(text), lambda token: True, lambda n: n.ids != (1, 2, 3), longest=3, min_frequency=2)
        assert [(n.ids, n.count) for n in found] == [((1, 2), 5)]

    def test_no_ngram_spans_two_texts(self):
        assert not list(choose_ngrams(stream_of([[1], [2]] * 5), lambda token: True, longest=3, min_frequency=2))


class TestPattern:
    def test_the_longest_phrase_that_fits_and_ends_a_pretoken_is_taken(self, family):
        phrases = (" of the", " of", " in the", ". A", "'s a", " of the 12", ",", " naïve Ж")
        old = family["byte-bpe"]
        pattern = regex.compile(f"(?:{alternatives({phrase: not_behind(old, phrase) for phrase in phrases})})")
        cases = {
            " of the x": " of the",
            " of there": " of",
            " offer": None,
            " of the 12.": " of the 12",
            " of the 123": " of the",
            "'s an": None,
        }
        cases |= {
            ", x": ",",
            ",;": None,
            " naïve Ж": " naïve Ж",
            " naïve ЖЖ": None,
            ". A.": ". A",
            ". And": None,
            " of the\u0301": " of the",
        }
        for text, expected in cases.items():
            match = pattern.match(text)
            assert (match and match.group()) == expected, text

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(["byte-bpe", "gpt4"]), st.text(alphabet=" ofthein.A's12,ïЖ\n\r\u0301\u3000", max_size=40))
    def test_all_other_text_is_cut_as_before(self, name, text):
        """Joined pre-tokens are those of the old pattern, some of them joined; those joined are phrases."""
        old = PATTERNS[name]
        new = KEPT[name]
        before, after = ([span for _, span in t.backend.pre_tokenizer.pre_tokenize_str(text)] for t in (old, new))
        assert [text[a:b] for a, b in after if (a, b) not in before] == [
            p for a, b in after if (a, b) not in before for p in [text[a:b]] if p in TOGETHER
        ]
        assert {end for _, end in after} <= {end for _, end in before}

    def test_the_pattern_is_that_of_the_library(self, family):
        old = family["byte-bpe"]
        assert takes_phrases(old)
        split = keep_whole(old, ["zzz yyy"])
        assert split["pretokenizers"][0]["pattern"]["Regex"].endswith(BYTE_LEVEL)
        plain = old.with_spec({**old.spec, "pre_tokenizer": split})
        for text in [*OLD[:50], *NEW[:50], "It's 42!  we'll\n\n see ", "\u0ba8\u0bbf \u4e2d\u6587 \U0001f600..."]:
            assert plain.encode(text) == old.encode(text)

    def test_other_pretokenizers_are_left_alone(self, tokenizers):
        assert not takes_phrases(tokenizers["wordpiece"])
        assert not takes_phrases(tokenizers["unigram"])


@pytest.fixture(scope="module", params=BPE)
def both(request, family):
    """(old, change) of appended n-grams."""
    return family[request.param], extend(family[request.param], DOMAIN, 40, route="n-grams")


def pieces_of(old, change):
    """New id -> the old ids it stands for, from the merges that make it."""
    spelled = {}
    vocab = change.tokenizer.model_vocab
    for a, b in (merge if isinstance(merge, list) else merge.split(" ") for merge in change.tokenizer.model["merges"]):
        made = vocab[a + b]
        if change.source_ids[made] < 0:
            left, right = vocab[a], vocab[b]
            spelled[made] = [*spelled.get(left, [left]), *spelled.get(right, [right])]
    return spelled


class TestAppended:
    def test_old_ids_stay_and_every_new_token_is_produced(self, both):
        old, change = both
        assert change.tokenizer.vocab_size == old.vocab_size + 40
        assert change.new_ids.tolist() == list(range(old.vocab_size, old.vocab_size + 40))
        assert change.unreachable == []
        before, after = (sum(map(len, t.encode_batch(DOMAIN))) for t in (old, change.tokenizer))
        assert after < 0.9 * before

    def test_encoding_is_patching_on_top_of_the_old_tokenizer(self, both):
        """Each new token stands for the very old tokens that were there; the rest is as it was."""
        old, change = both
        spelled = pieces_of(old, change)
        assert set(spelled) == set(change.new_ids.tolist())
        for text in [
            *DOMAIN,
            *NEW,
            *OLD,
            "It's 42!  we'll\n\n see ",
            "",
            "hơ kiệmdom blu. ba",
            *make_texts(9, 50, [*SYLLABLES, "hơ", "дом"]),
        ]:
            new = change.tokenizer.encode(text)
            assert [i for token in new for i in spelled.get(token, [token])] == old.encode(text)
            assert change.tokenizer.decode(new) == old.decode(old.encode(text))

    def test_words_are_joined_across_spaces_where_the_tokenizer_lets_them(self, both):
        _, change = both
        joined = [i for i in change.new_ids.tolist() if b" " in change.tokenizer.surface(i).strip()]
        assert joined
        assert "several words" in " ".join(change.notes)

    def test_no_new_token_holds_digits_that_the_model_reads_one_by_one(self):
        old = toy_tokenizers.byte_bpe(["b a", "Ġ ba"])
        texts = ["ba ba 42 ba 42 ba", "x ba 4 ba 42 x ba"] * 20
        change = extend(old, texts, 3, route="n-grams")
        surfaces = [change.tokenizer.surface(i) for i in change.new_ids.tolist()]
        assert b" ba ba" in surfaces or b" x ba" in surfaces
        assert not [s for s in surfaces if b"4" in s or b"2" in s]

    def test_old_merges_do_not_work_across_what_the_pattern_kept_apart(self, gpt4_pattern):
        """ " 42" was learned as one piece, but this pattern never shows it to the model whole."""
        old = gpt4_pattern
        assert [old.pieces[i] for i in old.encode("ba 42")][-2:] == ["Ġ", "42"]
        assert "Ġ42" in old.vocab
        texts = [f"{word} ba, 42 de" for word in ("fi", "go", "lu", "mar")] * 10
        change = extend(old, texts, 2, route="n-grams")
        spelled = pieces_of(old, change)
        for text in texts:
            assert [i for token in change.tokenizer.encode(text) for i in spelled.get(token, [token])] == old.encode(text)

    def test_transformers_reads_the_same(self, both):
        _, change = both
        assert agrees_with_transformers(change.tokenizer, [*NEW[:40], *DOMAIN[:40]], same_pattern=True)

    def test_it_saves_at_least_what_it_says(self, both):
        old, change = both
        said = int(regex.search(r"save ([\d,]+) tokens", " ".join(change.notes))[1].replace(",", ""))
        before, after = (sum(map(len, t.encode_batch(DOMAIN))) for t in (old, change.tokenizer))
        assert before - after >= said > 0

    def test_words_that_always_go_together_become_one_token_which_no_other_route_does(self):
        old = toy_tokenizers.byte_bpe([f"{a} {b}" for a, b in ("ba", "de", "fi", "go")] + [f"Ġ {w}" for w in ("ba", "de", "fi", "go")])
        texts = [" ba de fi go ba de fi" + " go" * (i % 2) for i in range(30)]
        change = extend(old, texts, 3, route="n-grams")
        assert [change.tokenizer.surface(i) for i in change.new_ids.tolist()][-1] == b" ba de fi go"
        assert [len(ids) for ids in change.tokenizer.encode_batch(texts[:2])] == [2, 2]
        with pytest.raises(TokenizerError, match="no pair of pieces"):
            extend(old, texts, 1, route="continued")

    def test_the_same_text_gives_the_same_tokens(self, family):
        old = family["byte-bpe"]
        once, again = (extend(old, list(DOMAIN), 20, route="n-grams").tokenizer.spec for _ in range(2))
        assert json.dumps(once) == json.dumps(again)


class TestInPlace:
    @pytest.fixture(scope="class", params=BPE)
    def replaced(self, request, family):
        return family[request.param], extend(family[request.param], DOMAIN, 25, route="adaptivocab")

    def test_the_vocabulary_keeps_its_size_and_old_tokens_their_ids(self, replaced):
        old, change = replaced
        assert change.tokenizer.vocab_size == old.vocab_size
        assert len(change.new_ids) == 25
        assert (change.source_ids < 0).sum() == 25
        kept = np.flatnonzero(change.source_ids >= 0)
        assert (change.source_ids[kept] == kept).all()
        assert all(change.tokenizer.pieces[i] == old.pieces[i] for i in kept.tolist())
        assert not {change.tokenizer.pieces[i] for i in change.new_ids.tolist()} & set(old.vocab)

    def test_all_text_can_still_be_written(self, replaced):
        old, change = replaced
        for text in [*DOMAIN, *NEW, *OLD, "It's 42! \U0001f600 \u4e2d"]:
            assert change.tokenizer.decode(change.tokenizer.encode(text)) == old.decode(old.encode(text))
        assert change.unreachable == []

    def test_what_went_is_what_the_text_uses_least(self, replaced):
        old, change = replaced
        usage = np.bincount(np.concatenate([np.array(ids) for ids in old.encode_batch(DOMAIN)]), minlength=old.vocab_size)
        made = {a + b for a, b in (m if isinstance(m, list) else m.split(" ") for m in old.model["merges"])}
        parts = {p for m in old.model["merges"] for p in (m if isinstance(m, list) else m.split(" "))}
        leaves = [i for i, piece in old.pieces.items() if piece in made and piece not in parts]
        gone = change.new_ids.tolist()
        spared = [i for i in leaves if i not in gone]
        assert all(old.pieces[i] in made for i in gone)
        if spared:
            assert max(usage[i] for i in gone) <= max(usage[i] for i in spared) + max(usage[i] for i in gone)
            assert min(usage[i] for i in spared) >= min(usage[i] for i in gone)

    def test_leaves_go_first_and_their_parts_after_them(self):
        old = toy_tokenizers.byte_bpe(["a b", "ab c", "d e", "f g"])
        usage = Counter({old.vocab["de"]: 5, old.vocab["abc"]: 1, old.vocab["ab"]: 0, old.vocab["fg"]: 2})
        names = [old.pieces[i] for i in least_needed(old, old, usage, 4)]
        assert names == ["abc", "ab", "fg", "de"]
        with pytest.raises(TokenizerError, match="only 4 old tokens can be spared, 5 are to be replaced"):
            least_needed(old, old, usage, 5)

    def test_rows_start_with_exponential_weights_over_what_used_to_be_there(self, replaced):
        import torch

        old, change = replaced
        target = Target(change.new_ids, change.tokenizer, change.source_ids, old)
        table = torch.randn(old.vocab_size, 6, generator=torch.Generator().manual_seed(0))
        for role, heaviest in (("input", "last"), ("head", "first")):
            rows = ConstituentExponential()(Source(table, old, role=role), target, Context()).apply(table)
            for row, pieces in zip(rows, target.pieces, strict=True):
                assert len(pieces) >= 2
                weights = exponential_weights(len(pieces), 2.0, heaviest)
                torch.testing.assert_close(row, sum(w * table[p] for w, p in zip(weights, pieces, strict=True)), rtol=1e-5, atol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize("name", ["wordpiece", "unigram"])
    @pytest.mark.parametrize("route", ["n-grams", "adaptivocab"])
    def test_tokenizers_without_merges(self, tokenizers, name, route):
        with pytest.raises(TokenizerError, match="do not have: use --route continued"):
            extend(tokenizers[name], NEW, 5, route=route)

    def test_more_than_the_text_supports(self, family):
        with pytest.raises(TokenizerError, match=r"the text supports (\d+): use --extend"):
            extend(family["byte-bpe"], NEW[:3], 5000, route="n-grams")

    def test_text_without_repetition(self, family):
        with pytest.raises(TokenizerError, match="no n-gram that occurs 2 times"):
            extend(family["byte-bpe"], ["x", "q"], 5, route="n-grams")

    def test_added_tokens_are_never_part_of_one(self, family):
        old = family["byte-bpe"]
        draw = random.Random(0)
        texts = [f"<tool>ba de<|end|>{draw.choice(['fi', 'go'])}" for _ in range(50)]
        change = extend(old, texts, 1, route="n-grams")
        assert not [i for i in change.new_ids.tolist() if b"<" in change.tokenizer.surface(i)]
        for text in texts:
            assert change.tokenizer.decode(change.tokenizer.encode(text)) == old.decode(old.encode(text))


def test_a_tokenizer_is_a_tokenizer(family):
    assert all(isinstance(t, Tokenizer) for t in family.values())
