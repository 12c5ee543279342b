"""SESA and ESA: closed forms of both, names that survive, masks, appended concepts, explanations that add up, refusals in one line."""

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from torch import nn
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import CheckpointError, CorpusError, ParameterError
from regraft.method import resolve
from regraft.text.examples import read_examples
from regraft.text.explain import Side, explain
from regraft.text.explicit.esa import fit_esa, pruned
from regraft.text.explicit.knowledge import Concept, KnowledgeBase, Thing
from regraft.text.explicit.naming import append_concept, concept_names
from regraft.text.explicit.sources import from_list, from_terms, from_wordnet
from regraft.text.explicit.vectors import Index, combined, contributions, sparse, with_known
from regraft.text.fitting import Budget
from regraft.text.loading import is_stock, load
from regraft.text.tuners.sesa.groups import Group, draw, read_groups
from regraft.text.tuners.sesa.loss import SesaLoss, Targets
from regraft.text.tuners.sesa.watching import auc

WORDS = {"web": "http page server", "snake": "module import pip", "game": "chess board play", "music": "song audio mp3"}


def made(count, seed=0):
    """Objects of two concepts each, three words of each; two that have the same belong together."""
    begin = random.Random(seed)
    rows = []
    for number in range(count):
        concepts = begin.sample(list(WORDS), 2)
        words = [begin.choice(WORDS[one].split()) for one in concepts for _ in range(3)]
        rows.append({"id": f"{seed}.{number}", "text": " ".join(words), "concepts": concepts, "category": concepts[0]})
    pairs = []
    while len(pairs) < 2 * count:
        a, b = begin.sample(rows, 2)
        if set(a["concepts"]) == set(b["concepts"]) and a["text"] != b["text"]:
            pairs.append({"anchor": a["text"], "positive": b["text"]})
    return rows, pairs


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sesa")
    rows, pairs = made(120)
    for name, some in (("base", rows), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return folder


def tower(files, **settings):
    return resolve("encoder", "rnn", {"hidden": 16, "width": 16} | settings).build(files / "base.jsonl")


def trained(files, model, *, steps=40, lr=2e-2, **settings):
    tuner = resolve("tuner", "sesa", {"knowledge": str(files / "base.jsonl"), "min_objects": 5} | settings)
    data, _ = read_examples([str(files / "pairs.jsonl")], tuner.takes)
    budget = Budget(steps=steps, batch_size=32, lr=lr)
    return tuner.train(model, data, budget), budget


@pytest.fixture(scope="module")
def model(files):
    return trained(files, tower(files), steps=160, unknown_weight=1.0)[0]


# vectors


rows_of = st.lists(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5), min_size=2, max_size=6)


@given(rows_of)
@settings(max_examples=50, deadline=None)
def test_contributions_add_up_to_the_cosine(rows):
    a, b = np.array(rows[0], np.float32), np.array(rows[1], np.float32)
    length = float(np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float)))
    expected = float(a.astype(float) @ b.astype(float)) / length if length > 0 else 0.0
    assert contributions(a, b).sum() == pytest.approx(expected, abs=1e-6)
    if a.any():
        assert contributions(a, a).sum() == pytest.approx(1, abs=1e-6)


@given(rows_of, st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_few_units_score_no_more_than_all(rows, top):
    rows = np.array(rows)
    cut, whole = sparse(rows, top), sparse(rows, rows.shape[1])
    assert np.diff(cut.indptr).max() <= top
    assert ((cut @ cut.T).toarray() <= (whole @ whole.T).toarray() + 1e-9).all()


def test_search_finds_what_the_dense_product_finds():
    rows = np.random.default_rng(0).random((40, 12))
    few = sparse(rows, 4)
    scores = (few @ few.T).toarray()
    for query, found in enumerate(Index.of(few).search(few, top=3, block=7)):
        assert [at for at, _ in found] == np.argsort(-scores[query], kind="stable")[:3].tolist()
        assert found[0] == (query, pytest.approx(scores[query, query]))
    assert Index.of(few).search(sparse(np.zeros((1, 12)), 2)) == [[]]
    with pytest.raises(ParameterError, match="at least 1 unit"):
        sparse(rows, 0)


def test_fields_and_known_concepts():
    rows = np.array([[0.2, 0.0, 0.5], [0.1, 0.4, 0.5]])
    np.testing.assert_allclose(combined(rows, "max"), [0.2, 0.4, 0.5])
    np.testing.assert_allclose(combined(rows, "add"), [0.3, 0.4, 1.0])
    known = np.array([[1.0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(with_known(rows, known), [[1, 0, 0.5], [0.1, 0.4, 0.5]])
    np.testing.assert_allclose(with_known(rows, known, "alone"), [[1, 0, 0], [0.1, 0.4, 0.5]])


# ESA

ARTICLES = ["map map chart", "map song", "song song tune"]


def test_esa_is_the_table_made_by_hand():
    log = np.log
    idf = {"chart": log(3), "map": log(1.5), "song": log(1.5), "tune": log(3)}
    columns = [{"map": (1 + log(2)) * idf["map"], "chart": idf["chart"]}, {"map": idf["map"], "song": idf["song"]}]
    columns.append({"song": (1 + log(2)) * idf["song"], "tune": idf["tune"]})
    table = np.zeros((4, 3))
    for k, column in enumerate(columns):
        length = sum(value**2 for value in column.values()) ** 0.5
        for word, value in column.items():
            table[list(idf).index(word), k] = value / length
    space = fit_esa(ARTICLES)
    assert space.words == tuple(idf)
    np.testing.assert_allclose(space.weights.toarray(), table, atol=1e-6)
    expected = (1 + log(2)) * idf["song"] * table[2] + idf["chart"] * table[0]
    np.testing.assert_allclose(space.vectors(["song chart Song", "nothing"]).toarray(), [expected, np.zeros(3)], atol=1e-6)


def test_esa_is_the_product_of_scikit_learn():
    draw_ = random.Random(0)
    articles = [" ".join(draw_.choices([*WORDS, "map", "chart", "tune"], k=6)) for _ in range(8)]
    texts = ["web map", "chart chart game tune"]
    theirs = TfidfVectorizer(sublinear_tf=True, smooth_idf=False).fit(articles)
    theirs.idf_ = theirs.idf_ - 1
    expected = normalize(theirs.transform(texts) @ theirs.transform(articles).T).toarray()
    assert expected.any()
    np.testing.assert_allclose(normalize(fit_esa(articles, window=0).vectors(texts)).toarray(), expected, atol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_pruning_keeps_the_first_concepts_of_each_word(seed, window, drop):
    draw_ = np.random.default_rng(seed)
    dense = draw_.random((5, 20)) * (draw_.random((5, 20)) < 0.6)
    kept = pruned(csr_array(dense), window, drop).toarray()
    for before, after in zip(dense, kept, strict=True):
        assert set(after[after > 0]) <= set(before)
        order = np.sort(before[before > 0])[::-1]
        whole = next((n + window for n in range(len(order) - window + 1) if order[n] - order[n + window - 1] < drop * order[0]), len(order))
        np.testing.assert_allclose(np.sort(after[after > 0])[::-1], order[:whole])
        assert not before.any() or after.argmax() == before.argmax()


# losses


def layer_of(count=4, width=6, seed=0):
    torch.manual_seed(seed)
    return Dense(width, count, activation_function=nn.Sigmoid())


def loss_of(layer, has, lacks=None, **options):
    """The loss over vectors that are given in the place of texts."""
    weights = {name: options.pop(name) for name in ("positive", "unknown") if name in options}
    absent = csr_array(np.zeros_like(has, dtype=np.float32) if lacks is None else np.array(lacks, np.float32))
    targets = Targets(csr_array(np.array(has, np.float32)), absent, **weights)
    return SesaLoss(nn.Sequential(layer), [layer], targets, **options)


def columns(seed=0, count=3, rows=5, width=6):
    draw_ = torch.Generator().manual_seed(seed)
    return [{"sentence_embedding": torch.randn(rows, width, generator=draw_)} for _ in range(count)]


HAS = [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
LABELS = torch.tensor([[1.0, 0, 1, 2], [1, 1, 0, 2], [1, -1, 0, 1], [1, 0, 0, 0], [1, 2, -1, 1]])


def test_renamed_dimensions_move_the_layer_and_leave_the_score():
    order, layer, other = torch.tensor([2, 0, 3, 1]), layer_of(), layer_of()
    other.linear.weight.data, other.linear.bias.data = layer.linear.weight.data[order], layer.linear.bias.data[order]
    found = [one({"sentence_embedding": columns()[0]["sentence_embedding"]})["sentence_embedding"] for one in (layer, other)]
    torch.testing.assert_close(found[1], found[0][:, order])
    has = np.array(HAS)
    losses = [loss_of(layer, has)(columns(), LABELS), loss_of(other, has[:, order.numpy()])(columns(), LABELS)]
    for name in ("relevance", "concepts"):
        torch.testing.assert_close(losses[0][name], losses[1][name])


def test_without_concept_loss_labels_say_nothing():
    permuted = np.array(HAS)[:, [3, 0, 1, 2]]
    found = [loss_of(layer_of(), has, concept_weight=0.0)(columns(), LABELS) for has in (HAS, permuted)]
    assert found[0].keys() == {"relevance"}
    assert found[0]["relevance"] == found[1]["relevance"]
    told = [loss_of(layer_of(), has)(columns(), LABELS)["concepts"] for has in (HAS, permuted)]
    assert told[0] != told[1]


def test_what_is_unknown_has_no_gradient():
    layer = layer_of()
    loss = loss_of(layer, HAS, [[0, 0, 1, 0], [0] * 4, [0] * 4], unknown=0.0)
    loss.ranking = False
    rows = torch.tensor([[0.0, 0], [0, 0], [0, 2], [0, -1], [0, 2]])
    loss(columns(count=1), rows)["concepts"].backward()
    moved = layer.linear.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, False, True, True]  # 0 and 3 it has, 2 it has not, of 1 nothing is known
    layer.zero_grad()
    loss(columns(count=1), torch.tensor([[0.0, 2], [0, -1], [0, 2], [0, -1], [0, 2]]))["concepts"].backward()
    assert not layer.linear.weight.grad.any()


def test_the_concept_loss_is_the_sum_by_hand():
    layer = layer_of()
    loss = loss_of(layer, HAS, [[0, 0, 1, 0], [0] * 4, [0] * 4], positive=3.0, unknown=0.1)
    x = columns(count=1)[0]["sentence_embedding"][:2]
    s = torch.sigmoid(layer.linear(x))
    y, w = torch.tensor(HAS[:2]), torch.tensor([[3, 0.1, 1, 3], [0.1, 3, 0.1, 0.1]])
    expected = -(w * (y * s.log() + (1 - y) * (1 - s).log())).mean() * 4 / 1.5
    loss.ranking = False
    torch.testing.assert_close(loss([{"sentence_embedding": x}], torch.tensor([[0.0, 0], [0, 1]]))["concepts"], expected)


def test_relevance_losses_by_hand():
    layer = layer_of()
    for kind in ("bce", "logistic", "hinge"):
        loss = loss_of(layer, HAS, relevance=kind, concept_weight=0.0, sparsity=0.5, margin=0.3)
        given_ = columns()
        a, b, c = (torch.sigmoid(layer.linear(one["sentence_embedding"])) for one in given_)
        first, second = torch.cosine_similarity(a, b), torch.cosine_similarity(a, c)
        if kind == "bce":
            p, q = torch.sigmoid(5 * first - 2), torch.sigmoid(5 * second - 2)
            expected = -(torch.log(p) + torch.log(1 - q)).mean() / 2
        else:
            gap = first - second
            expected = torch.log(1 + torch.exp(-5 * gap)).mean() if kind == "logistic" else torch.relu(0.3 - gap).mean()
        found = loss(given_, LABELS)
        torch.testing.assert_close(found["relevance"], expected)
        torch.testing.assert_close(found["sparsity"], 0.5 * torch.cat([a, b, c]).sum(1).mean())


# the knowledge base


def test_a_knowledge_base_comes_back_as_it_was(tmp_path):
    concepts = [Concept("a", "first", (), "the first"), Concept("b", "first", ("a",)), Concept("c", "third", ("b",))]
    things = [Thing("1", "one text", ("c",), ("a",), "x"), Thing("2", "another", ("b",)), Thing("3", "nothing known")]
    base = KnowledgeBase.of(concepts, things)
    base.save(tmp_path / "base.jsonl")
    again = KnowledgeBase.open(tmp_path / "base.jsonl")
    assert (again.concepts, list(again.things), again.digest) == (base.concepts, things, base.digest)
    assert base.names == ["first (a)", "first (b)", "third"]
    assert [set(one.concepts) for one in base.propagated().things] == [{"a", "b", "c"}, {"a", "b"}, set()]
    assert list(base.propagated().pruned(2).concepts) == ["a", "b"]
    tied = base.pruned(2, "parent")
    assert list(tied.concepts) == ["b"]
    assert [one.concepts for one in tied.things] == [("b",), ("b",), ()]
    has, lacks = base.labels()
    assert has.toarray().tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert lacks.toarray().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"id": 1}', "`text` is empty"),
        ('{"text": "a"}', "needs id and text"),
        ('{"id": 1, "text": "a", "concepts": "web"}', "`concepts` is a list"),
        ('{"id": 1, "text": "a", "concepts": ["web"], "not": ["web"]}', "web stands in `concepts` and in `not`"),
        ('{"id": 1, "text": "a", "concepts": ["w"]}\n{"id": 1, "text": "b"}', "record 2: a second object"),
        ('{"id": 1, "text": "a"}', "1 objects without a concept"),
        ('{"concept": "a", "parents": ["b"]}\n{"concept": "b", "parents": ["a"]}', "goes in a circle"),
        ("not json", "cannot be read"),
    ],
)
def test_a_broken_knowledge_base_is_refused_in_one_line(tmp_path, lines, said):
    (tmp_path / "base.jsonl").write_text(lines)
    with pytest.raises(CorpusError, match=said) as error:
        KnowledgeBase.open(tmp_path / "base.jsonl")
    assert "\n" not in str(error.value)


def test_knowledge_bases_out_of_other_files(tmp_path):
    synset = "0000000{} 03 n 01 {} 0 {} | what it is  \n"
    (tmp_path / "data.noun").write_text(
        synset.format(1, "thing", "000")
        + synset.format(2, "animal", "001 @ 00000001 n 0000")
        + synset.format(3, "cat", "001 @ 00000002 n 0000")
    )
    base = from_wordnet(str(tmp_path), depth=1)
    assert [one.name for one in base.concepts.values()] == ["thing", "animal"]
    assert [one.concepts for one in base.things] == [("n00000001",), ("n00000002",), ("n00000002",)]
    assert base.things[2].text == "cat: what it is"
    skills = from_list(["C", "C++", "machine  learning", "C"], [("1", "knows c++ and Machine Learning"), ("2", "c, not cobol")])
    assert list(skills.concepts) == ["C", "C++", "machine learning"]
    assert [set(one.concepts) for one in skills.things] == [{"C++", "machine learning"}, {"C"}]
    stanza = "[Term]\nid: {}\nname: {}\n{}\n"
    below = 'def: "A cyst of the kidney." []\nsynonym: "Kidney cyst" EXACT []\nis_a: X:1\n'
    (tmp_path / "signs.obo").write_text(
        "format-version: 1.2\n\n" + stanza.format("X:1", "Renal anomaly", "") + stanza.format("X:2", "Renal cyst", below)
    )
    terms = from_terms(tmp_path / "signs.obo")
    assert terms.concepts["X:2"].parents == ("X:1",)
    assert next(one.text for one in terms.things if one.id == "X:2") == "Renal cyst. Kidney cyst. A cyst of the kidney."
    assert all(thing.concepts == (thing.id,) for thing in terms.things)
    with pytest.raises(CorpusError, match="without a skill"):
        from_list([" "], [])
    with pytest.raises(ParameterError, match="no term 'X:3'"):
        from_terms(tmp_path / "signs.obo", "X:3")
    assert list(from_terms(tmp_path / "signs.obo", "X:2").concepts) == ["X:2"]


def test_negatives_belong_to_no_side(files):
    base = KnowledgeBase.open(files / "base.jsonl")
    pairs = [(row["anchor"], row["positive"]) for row in map(json.loads, (files / "pairs.jsonl").read_text().splitlines())]
    known = {frozenset(pair) for pair in pairs}
    category = {thing.text: thing.category for thing in base.things}
    drawn = draw(pairs, base, 4, 0.5, 0)
    assert drawn == draw(pairs, base, 4, 0.5, 0) != draw(pairs, base, 4, 0.5, 1)
    for (a, b), others in zip(pairs, drawn, strict=True):
        assert len(others) == 4
        assert all(other != a and frozenset((a, other)) not in known for other in others)
        assert category[others[0]] == category[b] == category[others[1]]
    with pytest.raises(CorpusError, match="too few to draw"):
        draw([("a", "b")], KnowledgeBase({}, ()), 1, 0.5, 0)


# the whole


def test_dimensions_mean_what_they_say_and_pairs_rank(files, model):
    assert concept_names(model) == list(dict.fromkeys(name for row in made(120)[0] for name in row["concepts"]))
    rows, pairs = made(60, seed=9)
    vectors = model.encode([row["text"] for row in rows])
    named = np.argsort(-vectors, axis=1)[:, :2]
    right = [{concept_names(model)[at] for at in best} == set(row["concepts"]) for best, row in zip(named, rows, strict=True)]
    assert np.mean(right) > 0.9
    base = KnowledgeBase.of([], [Thing(row["id"], row["text"], tuple(row["concepts"])) for row in rows])
    groups = [
        Group(a, (b, *c))
        for (a, b), c in zip([tuple(p.values()) for p in pairs], draw([tuple(p.values()) for p in pairs], base, 3, 0, 0), strict=True)
    ]
    assert auc(model, groups) > 0.85


def test_without_supervision_dimensions_have_no_names(files):
    latent, _ = trained(files, tower(files), steps=4, dims="latent", patience=0)
    with pytest.raises(CheckpointError, match="have no names"):
        concept_names(latent)


def test_an_lstm_opens_in_plain_sentence_transformers_and_keeps_its_names(model, tmp_path):
    texts = ["http page chess", "song"]
    model.save_pretrained(str(tmp_path / "model"))
    assert is_stock(tmp_path / "model")
    plain, ours = SentenceTransformer(str(tmp_path / "model"), device="cpu"), load(tmp_path / "model")
    for found in (plain, ours):
        np.testing.assert_array_equal(found.encode(texts), model.encode(texts))
    assert concept_names(ours) == concept_names(model)
    ours.save_pretrained(str(tmp_path / "again"))
    assert concept_names(load(tmp_path / "again")) == concept_names(model)


def test_an_appended_concept_leaves_the_others_bit_for_bit(model, tmp_path):
    model.save_pretrained(str(tmp_path / "model"))
    longer, texts = load(tmp_path / "model"), ["http page chess", "song"]
    append_concept(longer, "song again", "song audio")
    assert concept_names(longer) == [*concept_names(model), "song again"]
    found = longer.encode(texts)
    np.testing.assert_array_equal(found[:, :-1], model.encode(texts))
    assert longer.get_embedding_dimension() == 5
    longer.save_pretrained(str(tmp_path / "longer"))
    np.testing.assert_array_equal(load(tmp_path / "longer").encode(texts), found)
    with pytest.raises(ParameterError, match="'web' is a dimension already"):
        append_concept(longer, "web")


def test_two_towers_of_a_gru(files, tmp_path):
    towers, _ = trained(files, tower(files, cell="gru"), steps=6, tied=False)
    towers.save_pretrained(str(tmp_path / "towers"))
    assert not is_stock(tmp_path / "towers")
    again = load(tmp_path / "towers")
    assert concept_names(again) == concept_names(towers)
    for way in ("encode_query", "encode_document"):
        np.testing.assert_array_equal(getattr(again, way)(["http song"]), getattr(towers, way)(["http song"]))
    assert not np.array_equal(again.encode_query(["http song"]), again.encode_document(["http song"]))


@pytest.mark.parametrize("options", [{"activation": "relu", "start": "names"}, {"activation": "softmax", "relevance": "logistic"}])
def test_a_frozen_transformer_learns_in_its_head_alone(files, bert_folder, options, tmp_path):
    body = resolve("encoder", "mean").build(bert_folder)
    before = {name: weight.clone() for name, weight in body.state_dict().items()}
    found, budget = trained(files, body, steps=8, trains="head", patience=0, **options)
    after = found.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert len(budget.curve) == 8
    found.save_pretrained(str(tmp_path / "model"))
    np.testing.assert_array_equal(SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(["song"]), found.encode(["song"]))
    assert (found.encode(["song"]) >= 0).all()


def test_scored_pairs_and_their_refusals(files):
    base = KnowledgeBase.open(files / "base.jsonl")
    tuner = resolve("tuner", "sesa")

    def examples(*scores):
        from datasets import Dataset

        return Dataset.from_list([{"sentence1": "a", "sentence2": "b", "score": score} for score in scores])

    assert [one.score for one in read_groups(examples(0.0, 5.0, 2.5), base, negatives=2, hard=0.5, seed=0)] == [0, 1, 0.5]
    with pytest.raises(CorpusError, match="they begin at 0"):
        read_groups(examples(-1.0, 1.0), base, negatives=2, hard=0.5, seed=0)
    with pytest.raises(ParameterError, match="give a knowledge base"):
        tuner.train(None, examples(1.0), Budget(steps=1))
    with pytest.raises(ParameterError, match="relevance=hinge sets a positive"):
        resolve("tuner", "sesa", {"relevance": "hinge"}).learn(None, [Group("a", ("b",))], base, Budget(steps=1))
    with pytest.raises(CorpusError, match="no concept has 500 objects"):
        base.pruned(500)


def test_the_command_explains(files, model, tmp_path):
    model.save_pretrained(str(tmp_path / "model"))
    sides = ["--query", "http page server module import", "--document", "page http game", "--document", "import pip"]
    call = ["text", "explain", str(tmp_path / "model"), *sides, "--top", "2"]
    done = CliRunner().invoke(app, [*call, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert {one["concept"] for one in told["concepts"]} == {"web", "snake"}
    assert sum(one["contribution"] for one in told["concepts"]) + told["others"] == pytest.approx(told["score"], abs=1e-9)
    a, b = model.encode_query(sides[1]), model.encode_document([sides[3], sides[5]]).max(0)
    assert told["score"] == pytest.approx(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-6)
    strange = CliRunner().invoke(app, ["text", "explain", str(tmp_path / "model"), "--query", "zyx wvu", "--document", "page"])
    assert strange.exit_code == 2
    assert "the query has no word that model knows" in " ".join(strange.output.split())
    every = CliRunner().invoke(app, [*call[:-2], "--top", "4"])
    assert " others" not in every.output
    assert "unrecognized" not in every.output
    shown = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "why.html")])
    assert shown.exit_code == 0, shown.output
    assert "Contributions to the cosine" in (tmp_path / "why.html").read_text("utf-8")


@pytest.fixture(scope="module")
def plain_base(tmp_path_factory):
    """One object a concept."""
    path = tmp_path_factory.mktemp("plain") / "base.jsonl"
    KnowledgeBase.of([], [Thing(name, words, (name,)) for name, words in WORDS.items()]).save(path)
    return path


def test_esa_is_written_and_opened(plain_base, tmp_path):
    (tmp_path / "texts.txt").write_text("chess page\nunheard\n")
    out = ["--out", str(tmp_path / "rows.npy"), "--save-model", str(tmp_path / "esa")]
    done = CliRunner().invoke(app, ["text", "encode", str(plain_base), "--pooling", "esa", "--text", str(tmp_path / "texts.txt"), *out])
    assert done.exit_code == 0, done.output
    again = load(tmp_path / "esa")
    assert concept_names(again) == list(WORDS)
    rows = np.load(tmp_path / "rows.npy")
    np.testing.assert_array_equal(again.encode(["chess page", "unheard"]), rows)
    assert [row.nonzero()[0].tolist() for row in rows] == [[0, 2], []]


def test_esa_explains_straight_from_a_knowledge_base(plain_base):
    _, told = explain(plain_base, Side(["chess"]), Side(["board play"], ["web"]), known="max", top=3)
    assert told["concepts"][0]["concept"] == "game"
    _, none = explain(plain_base, Side(["song"]), Side(["board"]))
    assert (none["score"], none["concepts"]) == (0.0, [])
    with pytest.raises(ParameterError, match=r"the document has no word that base\.jsonl knows"):
        explain(plain_base, Side(["song"]), Side(["unheard"]))
    _, alone = explain(plain_base, Side([], ["web"]), Side([""], ["web"]), known="alone")
    assert alone["score"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--query", " ", "--document", "a"], "the query is empty"),
        (["--query", "a", "--document", "a", "--document-concept", "wob"], "did you mean web"),
        (["--query", "a", "--document", "a", "--top", "0"], "--top 0"),
        (["--query", "a", "--document", "a", "--known", "some"], "--known some: choose max or alone"),
        (["--query", "a", "--document", "a", "--out", "why.txt"], "the page is an .html file"),
    ],
)
def test_a_bad_call_is_one_line(plain_base, more, said):
    done = CliRunner().invoke(app, ["text", "explain", str(plain_base), *more])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
