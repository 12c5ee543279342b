import random

import entmax
import numpy as np
import pytest
import torch

from regraft.errors import CorpusError, ParameterError
from regraft.graft import Graft, Rows
from regraft.method import resolve
from regraft.vectors import training as vector_training
from regraft.vocab.initializers.focus import Focus, is_symbol
from toys.vocabularies import cosine, row_of, situation, word_tokenizer, write_vectors

OLD = word_tokenizer("cat dog Tree 12 ,")
NEW = word_tokenizer("kitten cat dog tree 12 , hound")
VECTORS = {
    "cat": [1, 0.2, 0],
    "dog": [0, 1, 0.1],
    "tree": [0.9, 0.8, 0.7],
    "12": [-1, 0, 0.5],
    ",": [0.3, -1, 0],
    "kitten": [1, 0.3, 0.1],
    "k": [0.1, 0, 1],
}


@pytest.fixture
def vectors(tmp_path):
    return write_vectors(tmp_path / "v.vec", VECTORS)


def test_row_is_the_sparsemax_of_cosines_to_all_anchors(vectors):
    source, target, context = situation(OLD, NEW, vectors=vectors)
    graft = Focus(auxiliary="vectors")(source, target, context)
    anchors = ["cat", "dog", "12", ",", "k", "##k"]  # shared tokens with a vector, "##k" has that of "k"
    cosines = torch.tensor([cosine(VECTORS["kitten"], VECTORS[word.removeprefix("##")]) for word in anchors])
    expected = np.zeros(source.vocab_size)
    expected[[OLD.vocab[word] for word in anchors]] = entmax.sparsemax(cosines.double(), dim=0).numpy()
    assert np.allclose(graft.weights[row_of(target, "kitten")].toarray()[0], expected, atol=1e-6)
    assert graft.certificate().inside == 1.0


def test_token_without_vector_takes_the_mean_of_its_pieces(vectors):
    source, target, context = situation(OLD, NEW, vectors=vectors)
    graft = Focus(auxiliary="vectors")(source, target, context)
    (note,) = context.notes
    assert note == "focus: --vectors has no vector for 1 of the 3 new tokens ('hound'): they take the mean of their old pieces"
    row = row_of(target, "hound")
    pieces = target.pieces[row]
    assert dict(graft.explain(row)) == pytest.approx({piece: pieces.count(piece) / len(pieces) for piece in pieces})


def test_normal_fallback_draws_only_what_has_no_vector(vectors):
    source, target, context = situation(OLD, NEW, vectors=vectors, bias=True)
    graft = Focus(auxiliary="vectors")(source, target, context)
    rows = Focus(auxiliary="vectors", fallback="normal")(source, target, context)
    assert isinstance(graft, Graft)
    assert isinstance(rows, Rows)
    same = (rows.values == graft.apply(source.table)).all(dim=1)
    assert [i for i in range(len(target)) if not same[i]] == [row_of(target, "hound")]
    assert torch.equal(rows.bias, graft.apply(source.bias))
    assert torch.equal(Focus(auxiliary="vectors", fallback="normal")(source, target, context).values, rows.values)


def test_fuzzy_matches_are_copied_and_are_anchors(vectors):
    source, target, context = situation(OLD, NEW, vectors=vectors)
    exact = Focus(auxiliary="vectors")(source, target, context)
    fuzzy = Focus(auxiliary="vectors", overlap="fuzzy")(source, target, context)
    tree, kitten = row_of(target, "tree"), row_of(target, "kitten")
    assert fuzzy.explain(tree) == [(OLD.vocab["Tree"], 1.0)]
    assert len(exact.explain(tree)) > 1
    assert OLD.vocab["Tree"] in dict(fuzzy.explain(kitten))
    assert OLD.vocab["Tree"] not in dict(exact.explain(kitten))


def test_symbol_anchors(vectors):
    source, target, context = situation(OLD, NEW, vectors=vectors)
    graft = Focus(auxiliary="vectors", overlap="symbols")(source, target, context)
    assert set(dict(graft.explain(row_of(target, "kitten")))) <= {OLD.vocab["12"], OLD.vocab[","]}
    assert [is_symbol(NEW, NEW.vocab[token]) for token in ("12", ",", "cat", "[UNK]")] == [True, True, False, False]


def test_vectors_from_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_training.pooch, "os_cache", lambda _: tmp_path)
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["cat", "dog", "kitten", "12"], k=8)) for _ in range(200)]
    source, target, context = situation(OLD, NEW, texts=texts)
    graft = Focus(dim=8, epochs=1, max_n=0)(source, target, context)
    assert set(dict(graft.explain(row_of(target, "kitten")))) <= {OLD.vocab[word] for word in ("cat", "dog", "12")}
    assert graft.certificate().inside == 1.0
    assert Focus(dim=8, epochs=1, max_n=0)(source, target, context) is graft  # the head's call reuses it
    with pytest.raises(CorpusError, match="too small"):
        Focus(min_count=10_000)(source, target, context)


def test_bad_input(tmp_path, vectors):
    source, target, context = situation(OLD, NEW)
    with pytest.raises(ParameterError, match="--vectors"):
        Focus(auxiliary="vectors")(source, target, context)
    with pytest.raises(ParameterError, match="--corpus"):
        Focus()(source, target, context)
    foreign = write_vectors(tmp_path / "f.vec", {"дом": [1, 2]})
    with pytest.raises(ParameterError, match="no token that both tokenizers have"):
        Focus(auxiliary="vectors")(*situation(OLD, NEW, vectors=foreign))
    only_old = write_vectors(tmp_path / "o.vec", {"cat": [1, 2], "dog": [2, 1]})
    with pytest.raises(ParameterError, match=r"focus: --vectors has no vector for 3 of the 3 new tokens .*new tokenizer's language"):
        Focus(auxiliary="vectors")(*situation(OLD, NEW, vectors=only_old))
    with pytest.raises(ParameterError, match="min_count"):
        resolve("initializer", "focus", {"min_count": 0})
