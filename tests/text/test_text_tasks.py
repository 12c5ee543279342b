"""Tasks: equal to what reference libraries compute on the same input; comparison from files to page; refusals in one line."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import CorpusError, EvaluationError, ParameterError
from regraft.evaluation.correlation import Correlation, spearman
from regraft.evaluation.paired import Sample, paired_effect
from regraft.method import resolve
from regraft.text.tasks.files import open_any, open_file
from regraft.text.tasks.named import NAMED
from regraft.text.tasks.quality import MeanQuality, Quality
from regraft.text.tasks.retrieval import Retrieval
from regraft.text.tasks.reverse import ReverseDictionary
from regraft.text.tasks.similarity import Similarity
from regraft.text.tasks.task import encoder
from toys.models import texts

PAIRS = [(a, b, float(n % 5)) for n, (a, b) in enumerate(zip(texts(40, 1), texts(40, 2), strict=True))]


@pytest.fixture(scope="module")
def model(bert_folder):
    return resolve("encoder", "mean").build(bert_folder)


@pytest.fixture
def files(tmp_path):
    lines = ["sentence1,sentence2,score", *(f"{a},{b},{score}" for a, b, score in PAIRS)]
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    rows = [{"text": text, "label": "cat" if "cat" in text else "none"} for text in texts(200, 3)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "search"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{n}", "title": "", "text": t}) + "\n" for n, t in enumerate(texts(60, 4)))
    )
    (folder / "queries.jsonl").write_text("".join(json.dumps({"_id": f"q{n}", "text": t}) + "\n" for n, t in enumerate(texts(10, 5))))
    judged = "".join(f"q{n}\td{(7 * n + k) % 60}\t{1 + k}\n" for n in range(10) for k in range(3))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return tmp_path


def test_spearman_is_scipys_with_ties_and_0_where_nothing_is_ordered():
    draw = np.random.default_rng(0)
    a, b = draw.integers(5, size=200).astype(float), draw.normal(size=200)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert spearman(a, np.ones(200)) == 0.0


def test_similarity_is_what_sentence_transformers_computes(model):
    found = Similarity("t", "Spearman", "", tuple((a, b) for a, b, _ in PAIRS), tuple(s for *_, s in PAIRS)).measure(encoder(model))
    a, b, gold = zip(*PAIRS, strict=True)
    theirs = EmbeddingSimilarityEvaluator(list(a), list(b), list(gold), main_similarity="cosine", write_csv=False)(model)
    assert found.value == pytest.approx(theirs["spearman_cosine"], abs=1e-6)


def test_retrieval_is_what_sentence_transformers_computes(model, files):
    task = open_file(files / "search")
    assert isinstance(task, Retrieval)
    binary = {query: dict.fromkeys(found, 1.0) for query, found in task.relevant.items()}
    ours = Retrieval("t", "", "", task.queries, task.corpus, binary).measure(encoder(model)).value
    relevant = {query: set(found) for query, found in task.relevant.items()}
    theirs = InformationRetrievalEvaluator(dict(task.queries), dict(task.corpus), relevant, ndcg_at_k=[10], write_csv=False)(model)
    assert ours == pytest.approx(theirs["cosine_ndcg@10"], abs=1e-6)


def test_graded_gains_by_hand():
    task = Retrieval("t", "", "", {"q": "q"}, {"a": "a", "b": "b", "c": "c"}, {"q": {"a": 1.0, "b": 2.0}}, k=2)
    at = {"q": [1.0, 0.0], "a": [1.0, 0.1], "b": [1.0, 1.0], "c": [0.0, 1.0]}
    found = task.measure(lambda given, role: np.array([at[text] for text in given], dtype=np.float32)).value
    assert found == pytest.approx((1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3)))


def test_a_model_that_gives_nan_is_refused():
    task = Similarity("sts", "Spearman", "", (("a", "b"), ("c", "d")), (1.0, 2.0))
    with pytest.raises(EvaluationError, match="sts: 4 of 4 vectors hold NaN"):
        task.measure(lambda given, role: np.full((len(given), 2), np.nan, dtype=np.float32))


def test_quality_is_the_mean_of_its_tasks_and_comes_back_from_a_kept_line():
    draw = np.random.default_rng(1)
    quality = Quality({"a": Correlation(draw.normal(size=(1, 30)), draw.normal(size=30)), "b": Sample.of(draw.integers(2, size=20))})
    metric = MeanQuality("quality", "high")
    again = metric.from_line(json.loads(json.dumps(metric.to_line(quality))))
    assert again.value == quality.value == pytest.approx(np.mean([one.value for one in quality.tasks.values()]))
    drawn = draw.integers(50, size=50)
    assert again.resample(drawn, np.zeros(1, dtype=int)) == quality.resample(drawn, np.zeros(1, dtype=int))


def test_the_command_from_files_to_page_and_again_without_measuring(files, bert_folder, tmp_path, monkeypatch):
    tasks = f"{files / 'pairs.csv'},{files / 'labels.jsonl'},{files / 'search'}"
    call = ["text", "compare", f"{bert_folder}@mean", f"{bert_folder}@first", f"{bert_folder}@mean:normalize=true", "--tasks", tasks]
    done = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert rows[0]["method"] == "bert@mean"
    assert rows[0]["quality"] == pytest.approx(np.mean([rows[0][name] for name in ("pairs", "labels", "search")]))
    same = next(row for row in rows if row["method"] == "bert@mean:normalize=true")
    assert same["quality"] == pytest.approx(rows[0]["quality"], abs=1e-6)  # cosine does not see lengths
    assert "Quality beside speed" in (tmp_path / "out" / "comparison.html").read_text("utf-8")
    monkeypatch.setattr("regraft.text.compare.TaskBench.measure", None)
    again = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "out"), "--json"])
    assert json.loads(again.stdout.splitlines()[-1])["rows"] == rows


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "x,y\n1,2\n", "columns x, y: a task has sentence1, sentence2, score or text, label"),
        ("a.csv", "sentence1,sentence2,score\na,b,high\n", "row 1: score 'high' is no number"),
        ("a.csv", "sentence1,sentence2,score\na,b\n", "line 2: not as many cells as the header has names"),
        ("a.csv", "text,label\na,x\nb,x\n", "classification needs two and more"),
        ("a.jsonl", "[1, 2]\n", "record 1: not an object"),
    ],
)
def test_a_file_that_is_no_task_is_one_line(name, content, said, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=said):
        open_file(tmp_path / name)


def test_unknown_tasks_and_folders(tmp_path):
    with pytest.raises(ParameterError, match="unknown task 'stss': choose from sts, sick"):
        open_any("stss")
    with pytest.raises(CorpusError, match=r"no corpus\.jsonl"):
        open_file(tmp_path)


def test_every_task_has_texts_to_time_encoding_on():
    asked = ReverseDictionary("dictionary", "MRR", "", index=None, asked=(("a small feline", 0),))
    found = Retrieval("search", "nDCG", "", {"q": "a query"}, {"d": "a document"}, {"q": {"d": 1.0}})
    assert asked.texts == asked.typical == ["a small feline"]
    assert (found.texts, found.typical) == (["a query"], ["a document"])
    assert all(one.typical for one in (open_any(name) for name in NAMED if name in ("words", "simlex")))


def test_many_draws_at_once_are_those_one_by_one(monkeypatch):
    draw = np.random.default_rng(0)

    def two_tasks():
        ranks = Correlation(draw.integers(4, size=(1, 30)).astype(float), draw.integers(3, size=30).astype(float))
        return Quality({"few": Correlation(draw.normal(size=(1, 3)), np.arange(3.0)), "ranks": ranks, "right": Sample.of(draw.random(9))})

    class Plain:
        def __init__(self, of):
            self.documents, self.seeds, self.value, self.resample = of.documents, of.seeds, of.value, of.resample

    one, other = two_tasks(), two_tasks()
    wanted = paired_effect(Plain(one), Plain(other), draws=300)
    seeds = Correlation(draw.normal(size=(3, 20)), draw.normal(size=20)), Correlation(draw.normal(size=(3, 20)), draw.normal(size=20))
    by_seed = paired_effect(*map(Plain, seeds), draws=300)
    monkeypatch.setattr("regraft.evaluation.correlation.rankdata", None)  # none is ranked by itself but for the value
    monkeypatch.setattr(Correlation, "value", 0.0)
    for found, plain in ((paired_effect(one, other, draws=300), wanted), (paired_effect(*seeds, draws=300), by_seed)):
        assert [found.low, found.high] == pytest.approx([plain.low, plain.high], abs=1e-12)
