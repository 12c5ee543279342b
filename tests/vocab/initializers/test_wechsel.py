import gensim.models
import numpy as np
import pytest

from regraft.errors import ParameterError
from regraft.graft import Rows
from regraft.method import resolve
from regraft.vocab.initializers.wechsel import Wechsel
from toys.vocabularies import cosine, row_of, situation, word_tokenizer, write_vectors

OLD = word_tokenizer("cat dog tree house")
NEW = word_tokenizer("mèo chó dog xyz")
ENGLISH = {"cat": [1, 0.2, 0], "dog": [0, 1, 0.1], "tree": [0.9, 0.8, 0.7], "house": [-1, 0, 0.5]}
VIETNAMESE = {"mèo": [1, 0.3, 0.1], "chó": [0.1, 0.9, 0.2], "dog": [0, 1, 0.1]}


@pytest.fixture
def files(tmp_path):
    return {
        "source_vectors": write_vectors(tmp_path / "en.vec", ENGLISH),
        "vectors": write_vectors(tmp_path / "vi.vec", VIETNAMESE),
    }


def by_hand(vector, k, temperature):
    cosines = {word: cosine(vector, other) for word, other in ENGLISH.items()}
    best = sorted(cosines, key=cosines.get, reverse=True)[:k]
    raw = np.exp(np.array([cosines[word] for word in best]) / temperature)
    return {OLD.vocab[word]: weight for word, weight in zip(best, raw / raw.sum(), strict=True)}


@pytest.mark.parametrize("subwords", ["ngrams", "words", "auto"])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (3, 0.1), (4, 2.0)])
def test_row_is_the_softmax_of_the_nearest(files, subwords, k, temperature):
    source, target, context = situation(OLD, NEW, **files)
    graft = Wechsel(k=k, temperature=temperature, subwords=subwords)(source, target, context)
    for word in ("mèo", "chó"):
        assert dict(graft.explain(row_of(target, word))) == pytest.approx(by_hand(VIETNAMESE[word], k, temperature), abs=1e-6)
    assert graft.certificate().inside == 1.0
    assert NEW.vocab["dog"] not in target.ids  # shared tokens are the library's to copy


def test_a_dictionary_turns_the_source_space(tmp_path, files):
    # Vietnamese vectors in a space of their own: the English space with its axes exchanged
    turned = write_vectors(tmp_path / "t.vec", {word: [v[2], v[0], v[1]] for word, v in {**VIETNAMESE, "cây": [0.9, 0.8, 0.7]}.items()})
    exact = {"mèo": [1, 0.2, 0], "chó": [0, 1, 0.1], "cây": [0.9, 0.8, 0.7]}
    seen = write_vectors(tmp_path / "s.vec", {word: [v[2], v[0], v[1]] for word, v in exact.items()})
    dictionary = tmp_path / "d.txt"
    dictionary.write_text("cat\tmèo\ndog\tchó\ntree\tcây\n", "utf-8")
    source, target, context = situation(OLD, NEW, source_vectors=files["source_vectors"], vectors=seen, dictionary=dictionary)
    graft = Wechsel(k=2, temperature=0.05)(source, target, context)
    assert graft.explain(row_of(target, "mèo"))[0][0] == OLD.vocab["cat"]
    assert dict(graft.explain(row_of(target, "mèo"))) == pytest.approx(by_hand(ENGLISH["cat"], 2, 0.05), abs=1e-5)
    assert not any("pairs of the dictionary" in note for note in context.notes)  # three pairs fix all three dimensions
    # without it, the two spaces have nothing to do with each other
    alone = Wechsel(k=2, temperature=0.05)(*situation(OLD, NEW, source_vectors=files["source_vectors"], vectors=turned))
    assert alone.explain(row_of(target, "mèo"))[0][0] != OLD.vocab["cat"]


def test_a_dictionary_of_fewer_words_than_dimensions_is_said(tmp_path, files):
    dictionary = tmp_path / "d.txt"
    dictionary.write_text("cat\tmèo\n", "utf-8")
    source, target, context = situation(OLD, NEW, **files, dictionary=dictionary)
    Wechsel(k=2)(source, target, context)
    assert context.notes[0].startswith("pairs of the dictionary that both sides know: 1, fewer than the 3 dimensions of ")
    assert "en.vec, so that 2 of them are turned arbitrarily" in context.notes[0]


def test_vectors_in_memory_are_as_good_as_files(files):
    keyed = gensim.models.KeyedVectors.load_word2vec_format(str(files["source_vectors"]))
    source, target, context = situation(OLD, NEW, **files)
    expected = Wechsel(k=2)(source, target, context)
    given = situation(OLD, NEW, source_vectors=keyed, vectors=VIETNAMESE)
    assert np.allclose(Wechsel(k=2)(*given).weights.toarray(), expected.weights.toarray(), atol=1e-6)


def test_tokens_without_vector(files):
    source, target, context = situation(OLD, NEW, **files)
    graft = Wechsel(k=2)(source, target, context)
    assert [note.partition("has ")[2] for note in context.notes] == [
        "no vector for 1 of the 3 new tokens ('xyz'): they take the mean of their old pieces"
    ]
    row = row_of(target, "xyz")
    assert dict(graft.explain(row)) == pytest.approx(dict.fromkeys(target.pieces[row], 1 / 3))
    rows = Wechsel(k=2, fallback="normal")(source, target, context)
    assert isinstance(rows, Rows)
    assert context.notes[1].endswith("('xyz'): they are drawn at random")
    same = (rows.values == graft.apply(source.table)).all(dim=1)
    with_vector = [row_of(target, "mèo"), row_of(target, "chó")]
    assert not same[row]
    assert same[with_vector].all()


def test_bad_input(tmp_path, files):
    source, target, context = situation(OLD, NEW, **files)
    with pytest.raises(ParameterError, match="k=5 nearest, but only 4 old tokens"):
        Wechsel(k=5)(source, target, context)
    for field, value in {"k": 0, "temperature": 0}.items():
        with pytest.raises(ParameterError, match=field):
            resolve("initializer", "wechsel", {field: value})
    with pytest.raises(ParameterError, match="--source-vectors"):
        Wechsel()(*situation(OLD, NEW, vectors=files["vectors"]))
    narrow = write_vectors(tmp_path / "n.vec", {"mèo": [1, 2]})
    with pytest.raises(ParameterError, match=r"3 dimensions and .* 2"):
        Wechsel()(*situation(OLD, NEW, vectors=narrow, source_vectors=files["source_vectors"]))
    foreign = write_vectors(tmp_path / "f.vec", {"дом": [1, 2, 3]})
    with pytest.raises(ParameterError, match="none of the old tokens"):
        Wechsel()(*situation(OLD, NEW, vectors=files["vectors"], source_vectors=foreign))
    with pytest.raises(ParameterError, match=r"no vector for 3 of the 3 new tokens .*give vectors in the new tokenizer's language"):
        Wechsel(k=2)(*situation(OLD, NEW, vectors=foreign, source_vectors=files["source_vectors"]))
