import random

import entmax
import numpy as np
import pytest
import torch

from regraft.errors import CorpusError, ParameterError
from regraft.graft import Rows
from regraft.vocab.initializers.ramen import Ramen
from toys.vocabularies import cosine, row_of, situation, word_tokenizer, write_vectors

OLD = word_tokenizer("cat dog tree house")
NEW = word_tokenizer("mèo chó cây dog xyz")
TRANSLATION = {"cat": "mèo", "dog": "chó", "tree": "cây", "house": "dog"}


@pytest.fixture
def bitext(tmp_path):
    draw = random.Random(0)
    lines = [draw.sample(list(TRANSLATION), 3) for _ in range(100)]
    (tmp_path / "b.en").write_text("\n".join(map(" ".join, lines)), "utf-8")
    (tmp_path / "b.vi").write_text("\n".join(" ".join(TRANSLATION[word] for word in line) for line in lines), "utf-8")
    return tmp_path / "b.en", tmp_path / "b.vi"


def test_rows_are_shares_of_links_in_parallel_text(bitext):
    source, target, context = situation(OLD, NEW, bitext=bitext, bias=True)
    graft = Ramen()(source, target, context)
    assert graft.explain(row_of(target, "mèo")) == [(OLD.vocab["cat"], 1.0)]
    assert graft.explain(row_of(target, "cây")) == [(OLD.vocab["tree"], 1.0)]
    assert graft.apply(source.bias)[row_of(target, "cây")] == source.bias[OLD.vocab["tree"]]
    (note,) = context.notes
    assert note == "ramen: the parallel text has no link for 1 of the 4 new tokens ('xyz'): they take the mean of their old pieces"
    row = row_of(target, "xyz")  # never in the text
    assert dict(graft.explain(row)) == pytest.approx(dict.fromkeys(target.pieces[row], 1 / 3))


def test_normal_fallback_has_the_papers_spread(bitext):
    source, target, context = situation(OLD, NEW, bitext=bitext, dim=4000)
    rows = Ramen(fallback="normal")(source, target, context)
    assert isinstance(rows, Rows)
    drawn = rows.values[row_of(target, "xyz")]
    assert float(drawn.std()) == pytest.approx(4000**-0.5, rel=0.1)
    assert torch.equal(rows.values[row_of(target, "mèo")], source.table[OLD.vocab["cat"]])


def test_vector_route_is_the_sparsemax_over_rank_weighted_word_means(tmp_path):
    english = {"cat": [1, 0.2, 0], "dog": [0, 1, 0.1], "catdog": [0.3, -1, 1], "tree": [0.9, 0.8, 0.7]}
    vietnamese = {"mèo": [1, 0.3, 0.1]}
    files = {"source_vectors": write_vectors(tmp_path / "e.vec", english), "vectors": write_vectors(tmp_path / "v.vec", vietnamese)}
    source, target, context = situation(OLD, NEW, **files)
    graft = Ramen()(source, target, context)
    # WordPiece cuts "catdog" into cat ##d ##o ##g, so that "cat" has two words, of ranks 1 and 3
    mean = (np.array(english["cat"]) + np.array(english["catdog"]) / 3) / (4 / 3)
    subwords = {"cat": mean, "dog": english["dog"], "tree": english["tree"], "##d": english["catdog"], "##o": english["catdog"]}
    subwords["##g"] = english["catdog"]
    cosines = torch.tensor([cosine(vietnamese["mèo"], vector) for vector in subwords.values()], dtype=torch.double)
    expected = dict(zip([OLD.vocab[piece] for piece in subwords], entmax.sparsemax(cosines, dim=0).tolist(), strict=True))
    assert "v.vec has no vector for 3 of the 4 new tokens ('chó', 'cây', 'xyz')" in context.notes[0]
    assert dict(graft.explain(row_of(target, "mèo"))) == pytest.approx({i: w for i, w in expected.items() if w}, abs=1e-6)


def test_bad_input(tmp_path, bitext):
    with pytest.raises(ParameterError, match="--bitext, or --vectors"):
        Ramen()(*situation(OLD, NEW))
    with pytest.raises(ParameterError, match="--bitext"):
        Ramen(route="bitext")(*situation(OLD, NEW))
    with pytest.raises(CorpusError, match="no new token occurs"):
        Ramen()(*situation(OLD, NEW, bitext=(bitext[0], bitext[0])))
    (tmp_path / "short").write_text("mèo\n", "utf-8")
    words = {"cat": [1, 0.2, 0], "dog": [0, 1, 0.1]}
    with pytest.raises(ParameterError, match="the given dict has no vector for 4 of the 4 new tokens"):
        Ramen()(*situation(OLD, NEW, source_vectors=words, vectors={"дом": [1, 2, 3]}))
    with pytest.raises(CorpusError, match="100 lines and"):
        Ramen()(*situation(OLD, NEW, bitext=(bitext[0], tmp_path / "short")))
