"""OFA against its definition: token vectors, copies, mixes, coordinates; and a real encoder from the command line to plain transformers."""

import numpy as np
import pytest
import torch

from regraft.errors import CorpusError, ParameterError
from regraft.graft import Rows
from regraft.method import resolve
from regraft.tokenizer.overlap import match_ignoring_case
from regraft.vectors.tokens import Vectors
from regraft.vectors.training import VectorTraining, train_word_vectors
from regraft.vocab.initializers.ofa import OFA
from regraft.vocab.initializers.wechsel import Wechsel
from regraft.vocab.mixing.word_space import WordSpace, spell_words
from regraft.vocab.mixing.word_space_start import align_tokens
from toys.tokenizers import byte_bpe, fallback_bpe
from toys.vocabularies import cosine, row_of, situation, word_tokenizer, write_vectors

OLD = word_tokenizer("cat dog tree house")
NEW = word_tokenizer("mèo chó dog Tree xyz")
WORDS = {
    "cat": [1, 0.2, 0],
    "dog": [0, 1, 0.1],
    "tree": [0.9, 0.8, 0.7],
    "house": [-1, 0, 0.5],
    "mèo": [1, 0.3, 0.1],
    "chó": [0.1, 0.9, 0.2],
}


@pytest.fixture
def vectors(tmp_path):
    return write_vectors(tmp_path / "w.vec", WORDS)


def token_vectors_by_hand(tokenizer, words, spellings=3):
    """Plain means over words, a loop a spelling."""
    collected = {}
    for word, vector in words.items():
        for spelling in (word, f" {word}", f" {word[:1].upper()}{word[1:]}")[:spellings]:
            for token in set(tokenizer.encode(spelling)):
                collected.setdefault(token, []).append(vector)
    return {token: np.mean(found, axis=0) for token, found in collected.items() if not tokenizer.is_special(token)}


def mix_by_hand(vector, old, k, temperature):
    """Softmax over the k nearest, a loop over all old tokens."""
    cosines = {token: cosine(vector, other) for token, other in old.items() if np.any(other)}
    best = sorted(cosines, key=cosines.get, reverse=True)[:k]
    raw = np.array([np.exp(cosines[token] / temperature) for token in best])
    return dict(zip(best, raw / raw.sum(), strict=True))


class TestTokenVectors:
    MERGES = ("c a", "ca t", "Ġ cat", "Ġ C", "o t")

    def tokenizers(self):
        return byte_bpe(self.MERGES), fallback_bpe([merge.replace("Ġ", "▁") for merge in self.MERGES if "C" not in merge]), OLD

    @pytest.mark.parametrize("spellings", [1, 2, 3])
    def test_the_plain_mean_over_three_spellings(self, spellings):
        words = {"cat": [1.0, 0.0], "cot": [0.0, 1.0], "dog": [0.3, 0.3], "tree": [-1.0, 2.0]}
        space = WordSpace.of_vectors(Vectors(list(words), np.array(list(words.values()), dtype=np.float32)))
        for tokenizer in self.tokenizers():
            found = align_tokens(space, tokenizer, spellings).vectors
            expected = token_vectors_by_hand(tokenizer, words, spellings)
            unknown = tokenizer.unknown_id
            assert set(np.flatnonzero(found.any(axis=1)).tolist()) == set(expected) - {unknown}
            for token in set(expected) - {unknown}:
                np.testing.assert_allclose(found[token], expected[token], atol=1e-6)

    def test_a_word_that_holds_a_token_in_two_spellings_counts_twice(self):
        tokenizer = byte_bpe(self.MERGES)
        space = WordSpace.of_vectors(Vectors(["cat", "at"], np.eye(2, dtype=np.float32)))
        held = space.held_by(tokenizer)
        cat, space_cat, t = (tokenizer.vocab[piece] for piece in ("cat", "Ġcat", "t"))
        assert held[cat].toarray().tolist() == [[1, 0]]
        assert held[space_cat].toarray().tolist() == [[1, 0]]
        assert held[t].toarray().tolist() == [[1, 3]]  # " Cat" ends in t, as do all spellings of "at"
        np.testing.assert_allclose(align_tokens(space, tokenizer, 3).vectors[t], [1 / 4, 3 / 4])

    def test_marked_edges(self):
        assert spell_words(["cat", " cat", "éa", "3d"]) == [
            ["cat", " cat", "éa", "3d"],
            [" cat", "", " éa", " 3d"],
            [" Cat", " Cat", " Éa", " 3d"],
        ]

    def test_prefixes_that_are_taken_for_words_are_refused(self):
        keys = ["eng:bark", "vie:vỏ", "vie:cây", "plain"]
        with pytest.raises(ParameterError, match=r"keys=language:word"):
            WordSpace.of_vectors(Vectors(keys, np.ones((4, 2), dtype=np.float32)))
        few = WordSpace.of_vectors(Vectors(["bark", "re:birth", "tree"], np.ones((3, 2), dtype=np.float32)))
        assert few.words == ["bark", "re:birth", "tree"]

    def test_language_prefixes(self):
        keys = ["vie:$mèo$", "cat", "deu:Hund", "http://a", "x:y", "zho-Hant:$貓"]
        space = WordSpace.of_vectors(Vectors(keys, np.arange(12, dtype=np.float32).reshape(6, 2) + 1), "language:word")
        assert space.words == [" mèo", "cat", "Hund", "http://a", "x:y", " 貓"]
        assert space.languages.tolist() == ["vie", "eng", "deu", "eng", "eng", "zho-Hant"]
        assert space.only("vie, deu").words == [" mèo", "Hund"]
        np.testing.assert_array_equal(space.only("deu").matrix, [[5, 6]])
        with pytest.raises(ParameterError, match=r"no word in the languages 'fra'.*'deu', 'eng'"):
            space.only("fra")


class TestCopies:
    def test_case_only(self):
        old = byte_bpe(["t h", "th e", "Ġ the", "T h", "Th e", "Ġ The", "o n"])
        new = byte_bpe(["t h", "T H", "TH E", "Ġ THE", "o N", "Ġ o", "Ġo n"])
        ids = np.array([new.vocab[piece] for piece in ("TH", "THE", "ĠTHE", "oN", "Ġon")])
        found = match_ignoring_case(old, new, ids)
        assert [old.pieces.get(i) for i in found.tolist()] == ["th", "the", "Ġthe", "on", None]

    def test_the_first_id_counts(self):
        old, new = word_tokenizer("cat", specials=()), word_tokenizer("CAT", specials=())
        assert old.vocab["cat"] == 0
        assert match_ignoring_case(old, new, np.array([new.vocab["CAT"]])).tolist() == [0]

    def test_fragments_of_characters_are_no_text(self):
        """All of them decode to the same replacement character."""
        first, second, third = (byte_bpe().pieces[i] for i in byte_bpe().encode("你"))
        old, new = byte_bpe([f"{first} {second}"]), byte_bpe([f"{second} {third}"])
        assert match_ignoring_case(old, new, np.array([new.vocab[second + third]])).tolist() == [-1]

    def test_specials_keep_out(self):
        old, new = word_tokenizer("cls", specials=("[UNK]", "CLS")), word_tokenizer("Cls x", specials=("[UNK]",))
        assert match_ignoring_case(old, new, np.array([new.vocab["Cls"]])).tolist() == [old.vocab["cls"]]

    def test_copied_rows_are_equal(self, vectors):
        source, target, context = situation(OLD, NEW, vectors=vectors)
        graft = OFA(k=2)(source, target, context)
        assert graft.explain(row_of(target, "Tree")) == [(OLD.vocab["tree"], 1.0)]
        assert torch.equal(graft.apply(source.table)[row_of(target, "Tree")], source.table[OLD.vocab["tree"]])
        assert NEW.vocab["dog"] not in target.ids
        exact = OFA(k=2, copy="exact")(source, target, context)
        # its only word spells it: "tree" behind a space and capitalized
        expected = mix_by_hand(WORDS["tree"], token_vectors_by_hand(OLD, WORDS), 2, 0.1)
        assert dict(exact.explain(row_of(target, "Tree"))) == pytest.approx(expected, abs=1e-6)


class TestMix:
    @pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (3, 0.1), (4, 2.0), (3, 0.005)])
    def test_the_softmax_of_the_nearest(self, vectors, k, temperature):
        source, target, context = situation(OLD, NEW, vectors=vectors)
        graft = OFA(k=k, temperature=temperature)(source, target, context)
        old, new = token_vectors_by_hand(OLD, WORDS), token_vectors_by_hand(NEW, WORDS)
        for word in ("mèo", "chó"):
            expected = mix_by_hand(new[NEW.vocab[word]], old, k, temperature)
            assert dict(graft.explain(row_of(target, word))) == pytest.approx(expected, abs=1e-6)
        assert graft.certificate().inside == 1.0

    def test_blocks_do_not_matter(self, vectors, monkeypatch):
        source, target, context = situation(OLD, NEW, vectors=vectors)
        whole = OFA(k=3)(source, target, context)
        monkeypatch.setattr("regraft.graft.similarity.BLOCK_BYTES", 64)
        monkeypatch.setattr("regraft.vectors.tokens.WORDS", 2)
        monkeypatch.setattr("regraft.vocab.mixing.word_space.WORDS", 4)
        parts = OFA(k=3)(*situation(OLD, NEW, vectors=vectors))
        assert abs(whole.weights - parts.weights).max() < 1e-7

    def test_equals_wechsel_where_frequencies_are_equal_and_nothing_is_copied(self, tmp_path):
        rng = np.random.default_rng(0)
        lists = [[a + b for a in first for b in ("in", "on", "at", "er")] for first in ("bcdf", "ghjk")]
        pair = [Vectors(words, rng.normal(size=(len(words), 5)).astype(np.float32), np.ones(len(words))) for words in lists]
        old, new = byte_bpe(["i n", "o n", "c in", "Ġ b"]), byte_bpe(["e r", "a t", "g at", "Ġ k", "Ġ g"])
        source, target, context = situation(old, new, vectors=tmp_path / "vi.vec", source_vectors=tmp_path / "en.vec")
        context.memory["aligned vectors None None"] = tuple(pair)
        context.memory["word space words"] = WordSpace.of_pair(*pair)
        ours = OFA(k=4, copy="exact", spellings=2, source_languages="source", target_languages="target")(source, target, context)
        theirs = Wechsel(k=4, subwords="words")(source, target, context)
        assert abs(ours.weights - theirs.weights).max() < 1e-6
        assert len(target) == 5

    def test_two_files_and_a_dictionary(self, tmp_path):
        turned = {word: [v[2], v[0], v[1]] for word, v in WORDS.items() if word in ("cat", "dog", "tree", "house")}
        english = write_vectors(tmp_path / "en.vec", {word: v for word, v in WORDS.items() if word in turned})
        foreign = write_vectors(tmp_path / "vi.vec", {"mèo": turned["cat"], "chó": turned["dog"], "cây": turned["tree"]})
        dictionary = tmp_path / "d.txt"
        dictionary.write_text("cat\tmèo\ndog\tchó\ntree\tcây\n", "utf-8")
        start = OFA(k=1, source_languages="source", target_languages="target")
        graft = start(*situation(OLD, NEW, vectors=foreign, source_vectors=english, dictionary=dictionary))
        target = situation(OLD, NEW)[1]
        assert graft.explain(row_of(target, "mèo")) == [(OLD.vocab["cat"], 1.0)]
        assert graft.explain(row_of(target, "chó")) == [(OLD.vocab["dog"], 1.0)]

    def test_languages_of_each_side(self, tmp_path):
        file = write_vectors(tmp_path / "w.vec", {f"vie:{w}" if w in ("mèo", "chó") else w: v for w, v in WORDS.items()})
        source, target, context = situation(OLD, NEW, vectors=file)
        graft = OFA(keys="language:word", k=2, source_languages="eng")(source, target, context)
        expected = mix_by_hand(WORDS["mèo"], {OLD.vocab[w]: WORDS[w] for w in ("cat", "dog", "tree", "house")}, 2, 0.1)
        assert dict(graft.explain(row_of(target, "mèo"))) == pytest.approx(expected, abs=1e-6)
        assert context.notes == [
            "ofa: of 59 tokens 55 copied, 1 copied ignoring case, 2 combined, 1 without a vector "
            "(by language of their words: eng 12 copied, 0 combined; vie 0 copied, 2 combined)"
        ]

    def test_tokens_without_a_vector(self, vectors):
        source, target, context = situation(OLD, NEW, vectors=vectors)
        graft = OFA(k=2)(source, target, context)
        row = row_of(target, "xyz")
        assert dict(graft.explain(row)) == pytest.approx(dict.fromkeys(target.pieces[row], 1 / 3))
        one, two = (OFA(k=2, fallback="normal")(source, target, context) for _ in range(2))
        assert isinstance(one, Rows)
        assert torch.equal(one.values, two.values)
        same = (one.values == graft.apply(source.table)).all(dim=1)
        assert not same[row]
        assert same[[row_of(target, "mèo"), row_of(target, "Tree")]].all()

    def test_output_biases(self, vectors):
        source, target, context = situation(OLD, NEW, vectors=vectors, bias=True)
        graft = OFA(k=2)(source, target, context)
        bias = OFA(k=2).new_bias(graft, source.bias)
        copy = row_of(target, "Tree")  # of "tree"
        assert bias[copy] == source.bias[source.tokenizer.vocab["tree"]]
        assert [value for row, value in enumerate(bias.tolist()) if row != copy] == [0] * (len(target) - 1)
        assert OFA(k=2, bias="mixed").new_bias(graft, source.bias) is None
        drawn = OFA(k=2, fallback="normal")(source, target, context)
        assert torch.equal(drawn.bias, bias)
        missing = row_of(target, "xyz")
        assert drawn.combined.tolist() == [row for row in range(len(target)) if row != missing]


class TestBadInput:
    def test_settings(self):
        for field, value in {"k": 0, "temperature": 0, "rank": 0, "spellings": 4, "split": "even", "keys": "prefix", "copy": "all"}.items():
            with pytest.raises(ParameterError, match=field):
                resolve("initializer", "ofa", {field: value})

    def test_vectors(self, tmp_path, vectors):
        source, target, context = situation(OLD, NEW, vectors=vectors)
        with pytest.raises(ParameterError, match="k=5 nearest, but only 4 old tokens"):
            OFA(k=5)(source, target, context)
        with pytest.raises(ParameterError, match="ofa needs --vectors"):
            OFA()(*situation(OLD, NEW))
        foreign = write_vectors(tmp_path / "f.vec", {"дом": [1, 2, 3]})
        with pytest.raises(ParameterError, match=r"f.vec has words of none of the old tokens"):
            OFA()(*situation(OLD, NEW, vectors=foreign))
        narrow = write_vectors(tmp_path / "n.vec", {"mèo": [1, 2]})
        with pytest.raises(ParameterError, match=r"3 dimensions and .* 2"):
            OFA()(*situation(OLD, NEW, vectors=narrow, source_vectors=vectors))

    def test_a_rank_above_the_dimension(self):
        with pytest.raises(ParameterError, match="ofa: rank=7, but the table has 6 dimensions: choose 1 to 6"):
            OFA(rank=7).factorise(torch.randn(20, 6))

    def test_a_corpus_without_repeated_words(self):
        with pytest.raises(CorpusError, match="too small for word vectors"):
            OFA(auxiliary="corpus")(*situation(OLD, NEW, texts=["cat dog"]))
        with pytest.raises(ParameterError, match="--corpus"):
            OFA(auxiliary="corpus")(*situation(OLD, NEW))


def test_word_vectors_of_a_corpus(tmp_path, monkeypatch):
    lines = [f"the {animal} eats the {food}, 12 days" for animal in ("cat", "dog") for food in ("fish", "meat")] * 40
    training = VectorTraining(model="skipgram", dim=8, epochs=8, min_count=5, max_n=0)
    vectors = train_word_vectors(lines, training, cache=tmp_path / "a")
    assert set(vectors.words) == {"the", "cat", "dog", "eats", "fish", "meat", "12", "days"}
    assert vectors.words[0] == "the"
    assert vectors.counts.tolist() == [320, 160, 160, 160] + [80] * 4
    again = train_word_vectors(lines, training, cache=tmp_path / "b")
    assert np.array_equal(vectors.matrix, again.matrix)
    assert not np.array_equal(vectors.matrix, train_word_vectors(lines, training, seed=1, cache=tmp_path / "a").matrix)
    monkeypatch.setattr("regraft.vectors.training._fit", None)  # kept: nothing is trained
    kept = train_word_vectors(lines, training, cache=tmp_path / "a")
    assert kept.words == vectors.words
    assert np.array_equal(kept.matrix, vectors.matrix)
