import json
import pickle
import random
import sys
import tracemalloc

import gensim.models
import numpy as np
import pytest
from gensim.models.fasttext import save_facebook_model

from regraft.errors import CorpusError, ParameterError
from regraft.vectors import training as vector_training
from regraft.vectors.alignment import align_vectors, case_variants, known_pairs, orthogonal_procrustes, read_dictionary, reduce_vectors
from regraft.vectors.files import open_vectors
from regraft.vectors.tokens import Vectors, vectors_by_look_up, vectors_by_words
from regraft.vectors.training import VectorTraining, token_names, train_token_vectors
from toys.vocabularies import word_tokenizer, write_vectors

WORDS = {"cat": [1.0, 0.5, -2.0], "dog": [0.0, 3.0, 1.0], "no": [0.0, 0.0, 0.0]}


def assert_words(vectors, expected=WORDS):
    assert list(vectors.words) == list(expected)
    assert vectors.matrix.dtype == np.float32
    assert np.allclose(vectors.matrix, list(expected.values()))


def test_text_with_and_without_header_and_words_with_spaces(tmp_path):
    assert_words(open_vectors(write_vectors(tmp_path / "a.vec", WORDS)))
    (tmp_path / "glove.txt").write_text("cat 1 0.5 -2\n. . 0 3 1\nno 0 0 0\n", "utf-8")
    assert_words(open_vectors(tmp_path / "glove.txt"), dict(zip(["cat", ". .", "no"], WORDS.values(), strict=True)))


@pytest.mark.parametrize("index", ["x.txt", "x.json", "x_index.json"])
def test_numpy_table_with_its_index(tmp_path, index):
    table = tmp_path / ("x_emb.npy" if "_index" in index else "x.npy")
    np.save(table, np.array(list(WORDS.values())))
    as_rows = {word: row for row, word in enumerate(WORDS)}
    (tmp_path / index).write_text(json.dumps(as_rows) if index.endswith("json") else "\n".join(WORDS), "utf-8")
    assert_words(open_vectors(table))


def test_word2vec_binary(tmp_path):
    keyed = gensim.models.KeyedVectors(3)
    keyed.add_vectors(list(WORDS), np.array(list(WORDS.values()), dtype=np.float32))
    keyed.save_word2vec_format(str(tmp_path / "w.bin"), binary=True)
    vectors = open_vectors(tmp_path / "w.bin")
    assert_words(vectors)
    assert vectors.counts is None  # gensim makes up 3, 2, 1
    assert vectors.frequencies.tolist() == pytest.approx([1, 1 / 2, 1 / 3])


def test_vectors_in_memory():
    keyed = gensim.models.KeyedVectors(3)
    keyed.add_vectors(list(WORDS), np.array(list(WORDS.values()), dtype=np.float32))
    assert_words(open_vectors(keyed))
    assert open_vectors(keyed).counts is None
    assert_words(open_vectors(WORDS))
    assert_words(open_vectors({f"vi:{word}": np.array(row) for word, row in WORDS.items()}, "vi:"))
    model = gensim.models.FastText([["walking", "walked"]] * 30, vector_size=8, min_count=1, bucket=500, epochs=1, seed=1, workers=1)
    assert np.allclose(open_vectors(model.wv).look_up(["walks"]), model.wv["walks"], atol=1e-6)
    with pytest.raises(ParameterError, match=r"type FastText: give a path, gensim KeyedVectors \(of a model, its .wv\)"):
        open_vectors(model)
    for bad in ({"a": [1, 2], "b": [1]}, {"a": ["x"]}):
        with pytest.raises(ParameterError, match="no lists of numbers of one length"):
            open_vectors(bad)
    with pytest.raises(ParameterError, match="0 words"):
        open_vectors({})


def test_digest_is_of_the_content():
    vectors = open_vectors(WORDS)
    again, other = open_vectors({word: np.array(row) for word, row in WORDS.items()}), open_vectors({**WORDS, "dog": [0, 3, 1.5]})
    renamed = Vectors(["cat", "dog", "yes"], vectors.matrix)
    counted = Vectors(vectors.words, vectors.matrix, np.ones(3))
    assert vectors.digest() == again.digest()
    assert len({table.digest() for table in (vectors, other, renamed, counted)}) == 4


def test_fasttext_binary_composes_unlisted_words(tmp_path):
    lines = [["walking", "walked", "talking", "talked"]] * 30
    model = gensim.models.FastText(lines, vector_size=8, min_count=1, bucket=500, epochs=2, seed=1, workers=1)
    save_facebook_model(model, str(tmp_path / "m.bin"))
    vectors = open_vectors(tmp_path / "m.bin")
    assert np.allclose(vectors.look_up(["walked"]), model.wv["walked"], atol=1e-6)
    assert np.allclose(vectors.look_up(["walks"]), model.wv["walks"], atol=1e-6)
    assert np.abs(vectors.look_up(["walks"])).max() > 0
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0].astype(np.float32)
    assert np.allclose(vectors.mapped(basis).look_up(["walked", "walks"]), vectors.look_up(["walked", "walks"]) @ basis, atol=1e-6)
    assert vectors.counts is not None
    assert vectors.counts.tolist() == [30] * 4


def test_language_prefix(tmp_path):
    path = write_vectors(tmp_path / "a.vec", {"en:cat": [1, 0], "vi:cat": [0, 1]})
    assert_words(open_vectors(path, "vi:"), {"cat": [0, 1]})
    with pytest.raises(ParameterError, match="no word starts with 'de:'"):
        open_vectors(path, "de:")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_are_refused_unread(tmp_path):
    path = tmp_path / "model.kv"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ParameterError, match=r"pickle.*save_word2vec_format"):
        open_vectors(path)
    np.save(tmp_path / "o.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "o.txt").write_text("a")
    with pytest.raises(ParameterError, match="not a plain NumPy table"):
        open_vectors(tmp_path / "o.npy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1 2\ndog 1\n", "line 2"),
        ("cat 1 x\n", "line 1"),
        ("cat 1 nan\n", "NaN"),
        ("cat 0 0\n", "every vector is zero"),
        ("", "no word vectors"),
        ("cat\n", "line 1"),
        ("3 2\ncat 1 2\ndog 1 2\n", "2 words, but its first line says 3: the file is cut off"),
        ("1 2\ncat 1 2\ndog 1 2\n", "2 words, but its first line says 1"),
        ("2 3\ncat 1 2\ndog 1 2\n", "line 2: 2 numbers after the word, expected 3"),
    ],
)
def test_malformed_text_is_one_line(tmp_path, text, message):
    path = tmp_path / "bad.vec"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message) as error:
        open_vectors(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_wrong_index(tmp_path):
    with pytest.raises(ParameterError, match="no such file"):
        open_vectors(tmp_path / "none.vec")
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    with pytest.raises(ParameterError, match="no list of its words"):
        open_vectors(tmp_path / "x.npy")
    (tmp_path / "x.txt").write_text("one\ntwo\n")
    with pytest.raises(ParameterError, match="2 words for a table of shape"):
        open_vectors(tmp_path / "x.npy")


@pytest.mark.parametrize("kind", ["fasttext.bin", "word2vec.bin", "x.npy", "x.json"])
def test_damaged_files_are_one_line_with_their_name(tmp_path, kind):
    model = gensim.models.FastText([["walking", "walked"]] * 30, vector_size=8, min_count=1, bucket=50, epochs=1, workers=1)
    save_facebook_model(model, str(tmp_path / "fasttext.bin"))
    model.wv.save_word2vec_format(str(tmp_path / "word2vec.bin"), binary=True)
    np.save(tmp_path / "x.npy", model.wv.vectors)
    (tmp_path / "x.json").write_text('["walking", "walked"]')
    whole = (tmp_path / kind).read_bytes()
    for length in range(len(whole) // 10, len(whole), max(1, len(whole) // 7)):
        (tmp_path / kind).write_bytes(whole[:length])
        with pytest.raises(ParameterError, match=kind) as error:
            open_vectors(tmp_path / kind.replace("json", "npy"))
        assert "\n" not in str(error.value)


def test_text_is_in_memory_once(tmp_path):
    rows, dim = 4_000, 100
    numbers = " ".join(["0.5"] * dim)
    (tmp_path / "a.vec").write_text(f"{rows} {dim}\n" + "".join(f"w{i} {numbers}\n" for i in range(rows)), "utf-8")
    tracemalloc.start()
    vectors = open_vectors(tmp_path / "a.vec")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vectors.matrix.shape == (rows, dim)
    assert peak < 1.8 * vectors.matrix.nbytes


# -- token vectors from word vectors ---------------------------------------------------------------------------------


def test_look_up_by_token_text():
    tokenizer = word_tokenizer("cat dog")
    table = vectors_by_look_up(tokenizer, Vectors(["cat", "[CLS]", "b"], np.eye(3, dtype=np.float32)))
    filled = {tokenizer.pieces[i]: table[i].argmax() for i in np.flatnonzero(table.any(axis=1)).tolist()}
    assert filled == {"cat": 0, "##b": 2, "b": 2}  # no special token


def test_vectors_by_words_by_hand():
    tokenizer = word_tokenizer("ca to")
    vectors = Vectors(["cat", "tot", "b"], np.array([[1, 0], [0, 1], [5, 5]], np.float32), np.array([3.0, 1.0, 2.0]))
    table = vectors_by_words(tokenizer, vectors)
    row = {piece: table[i].tolist() for piece, i in tokenizer.vocab.items()}
    assert row["ca"] == [1, 0]
    assert row["##t"] == pytest.approx([3 / 4, 1 / 4])  # cat three times as frequent as tot
    assert row["b"] == [5, 5]
    assert row["##z"] == [0, 0]
    by_rank = vectors_by_words(tokenizer, vectors, frequencies=1 / np.arange(1, 4), max_words=2)
    assert by_rank[tokenizer.vocab["##t"]].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert not by_rank[tokenizer.vocab["b"]].any()  # the third word was left out


# -- training on the corpus ------------------------------------------------------------------------------------------


def corpus(lines=200):
    draw = random.Random(0)
    return [" ".join(draw.choices(["cat", "dog", "sat", "ran"], k=8)) for _ in range(lines)] + ["owl"]


SMALL = VectorTraining(dim=8, epochs=1, min_count=5, buckets=100)


def test_trained_vectors_cover_frequent_tokens_and_are_kept(tmp_path, monkeypatch):
    tokenizer = word_tokenizer("cat dog sat ran owl")
    table = train_token_vectors(tokenizer, corpus(), SMALL, 0, tmp_path)
    covered = {tokenizer.pieces[i] for i in np.flatnonzero(table.any(axis=1)).tolist()}
    assert covered == {"cat", "dog", "sat", "ran"}  # "owl" occurs once
    again = train_token_vectors(tokenizer, corpus(), SMALL, 0, tmp_path / "elsewhere")
    assert np.array_equal(table, again)  # same seed, same vectors
    monkeypatch.setattr(vector_training, "_train", lambda *_: pytest.fail("trained again"))
    assert np.array_equal(train_token_vectors(tokenizer, corpus(), SMALL, 0, tmp_path), table)


def test_another_text_or_tokenizer_is_another_entry_and_a_damaged_one_is_replaced(tmp_path):
    tokenizer, texts = word_tokenizer("cat dog"), corpus()
    keys = {
        vector_training.content_key(tokenizer, texts, SMALL, 0),
        vector_training.content_key(tokenizer, texts[1:], SMALL, 0),
        vector_training.content_key(tokenizer, ["".join(texts)], SMALL, 0),
        vector_training.content_key(word_tokenizer("cat"), texts, SMALL, 0),
        vector_training.content_key(tokenizer, texts, SMALL, 1),
        vector_training.content_key(tokenizer, texts, VectorTraining(dim=9), 0),
    }
    assert len(keys) == 6
    table = train_token_vectors(tokenizer, texts, SMALL, 0, tmp_path)
    (kept,) = tmp_path.glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:50])
    assert np.array_equal(train_token_vectors(tokenizer, texts, SMALL, 0, tmp_path), table)


def test_corpus_too_small(tmp_path):
    with pytest.raises(CorpusError, match=r"too small for token vectors: 0 tokens occur 5 times"):
        train_token_vectors(word_tokenizer("cat"), ["cat"], SMALL, 0, tmp_path)


def test_without_gensim_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(ParameterError, match=r"regraft\[vectors\]"):
        train_token_vectors(word_tokenizer("cat"), corpus(), SMALL, 0, tmp_path)


def test_token_names_differ_and_hold_no_space():
    tokenizer = word_tokenizer("b cat")
    names = token_names(tokenizer)
    assert len(set(names)) == tokenizer.vocab_size
    assert not any(letter.isspace() for name in names for letter in name)
    assert names[tokenizer.vocab["cat"]] == "cat"


# -- alignment -------------------------------------------------------------------------------------------------------


def rotated(count=30, dim=6):
    draw = np.random.default_rng(0)
    target = draw.standard_normal((count, dim)).astype(np.float32)
    rotation = np.linalg.qr(draw.standard_normal((dim, dim)))[0]
    words = [f"w{i}" for i in range(count)]
    return Vectors(words, (target @ rotation.T).astype(np.float32), name="old"), Vectors([f"t{w}" for w in words], target, name="new")


def test_procrustes_recovers_a_rotation_and_is_orthogonal():
    source, target = rotated()
    found = orthogonal_procrustes(source.matrix.astype(float), target.matrix.astype(float))
    assert np.allclose(found @ found.T, np.eye(6), atol=1e-10)
    aligned, same = align_vectors(source, target, [(f"w{i}", f"tw{i}") for i in range(12)])
    assert same is target
    assert np.allclose(aligned.matrix, target.matrix, atol=1e-5)  # also words outside the dictionary


def test_fewer_words_than_dimensions_leave_the_rotation_open_and_are_said():
    source, target = rotated()
    for count, said in ((1, True), (5, True), (6, False), (12, False)):
        notes = []
        align_vectors(source, target, [(f"w{i}", f"tw{i}") for i in range(count)] * 3, notes)
        line = f"pairs of the dictionary that both sides know: {count}, fewer than the 6 dimensions of old"
        assert [note.startswith(line) for note in notes] == [True] * said


def test_pairs_are_tried_in_nine_case_variants():
    assert case_variants("bIG") == ("bIG", "big", "Big")
    source = Vectors(["Cat", "cat"], np.eye(2, dtype=np.float32))
    target = Vectors(["mèo", "Mèo"], np.eye(2, dtype=np.float32))
    left, right = known_pairs(source, target, [("cat", "mèo")])
    assert sorted(zip(left.tolist(), right.tolist(), strict=True)) == sorted(2 * 2 * [(1, 0)] + 2 * [(1, 1)] + 2 * [(0, 0)] + [(0, 1)])


def test_other_dimension_needs_a_dictionary_and_is_reduced_with_one():
    source, target = rotated()
    wide = Vectors(source.words, np.hstack([source.matrix, 1e-3 * source.matrix[:, :2]]), name="wide")
    with pytest.raises(ParameterError, match=r"wide has 8 dimensions and new 6.*--dictionary"):
        align_vectors(wide, target, None)
    aligned, _ = align_vectors(wide, target, [(f"w{i}", f"tw{i}") for i in range(30)])
    assert np.allclose(aligned.matrix, target.matrix, atol=1e-2)
    gram = lambda v: v.matrix @ v.matrix.T  # noqa: E731
    assert np.allclose(gram(reduce_vectors(wide, 6)), gram(wide), atol=1e-3)  # nothing but noise was in the other two


def test_dictionary_files(tmp_path):
    path = tmp_path / "d.txt"
    path.write_text("big house\tnhà lớn\ncat mèo\n\nalone\n", "utf-8")
    assert read_dictionary(path) == [("big house", "nhà lớn"), ("cat", "mèo")]
    source, target = rotated()
    with pytest.raises(ParameterError, match="none of the dictionary's 2 pairs has vectors on both sides"):
        align_vectors(source, target, read_dictionary(path))
    path.write_text("alone\n")
    with pytest.raises(ParameterError, match="no line holds two words"):
        read_dictionary(path)
    with pytest.raises(ParameterError, match="cannot read the dictionary"):
        read_dictionary(tmp_path / "none")
