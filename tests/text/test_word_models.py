"""Word models: closed forms of the study's frame, the trainer, what is written, and the verb."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import CorpusError, ParameterError
from regraft.method import list_methods, resolve
from regraft.report.figures import training_curves
from regraft.text.tasks.analogies import Analogies
from regraft.text.tasks.synonyms import Synonyms
from regraft.text.words.compare import advise, compare
from regraft.text.words.corpus import alias_table, pieces, read_words
from regraft.text.words.measuring import mean_of_words, performance_gain_ratio, table
from regraft.text.words.model import Part, Prepared, Weights
from regraft.text.words.models.glove import count_pairs
from regraft.text.words.train import Reading, words
from regraft.text.words.trainer import fit
from regraft.vectors.files import open_vectors

MODELS = ["skipgram", "cbow", "order", "lbl", "nnlm", "cw"]
ARTICLES, COLORS, ANIMALS, FOODS = ("a", "the"), ("red", "green", "blue"), ("cat", "dog"), ("fish", "meat", "rice")
WORDS = (*ARTICLES, *COLORS, *ANIMALS, "ate", *FOODS)
KINDS = {word: kind for kind in (ARTICLES, COLORS, ANIMALS, FOODS) for word in kind}
PAIRS = [(a, b, 5 * (KINDS.get(a, a) == KINDS.get(b, b))) for n, a in enumerate(WORDS) for b in WORDS[n + 1 :]]
TEXT = [f"{ARTICLES[n % 2]} {COLORS[n % 3]} {ANIMALS[n % 2]} ate {FOODS[n % 3]}" for n in range(60)]


def write_pairs(path, pairs=PAIRS):
    path.write_text("sentence1,sentence2,score\n" + "".join(f"{a},{b},{score}\n" for a, b, score in pairs))
    return path


def one_noise(text, word=1, lines=None):
    """`text` with every word kept, and `word` as the only noise."""
    found = read_words([text], min_count=1)
    size = len(found.names)
    return Prepared(found, found.lines, np.ones(size, np.float32), np.zeros(size, np.float32), np.full(size, word, np.int32))


def placed(*arrays):
    tables = tuple(np.array(one, dtype=np.float32, order="C") for one in arrays)
    return Weights(tables, tables)


def loss_of(model, prepared, weights):
    return model.go(prepared, weights, part(prepared, learning=False))[0]


def part(prepared, rate=0.0, *, learning=True):
    return Part(prepared.units, np.full(2, rate, np.float32), np.array([7], np.uint64), learning=learning)


def plain(name, **fields):
    return resolve("word-model", name, {"t": 0, "negatives": 1, "optimizer": "linear", "dim": 4, "window": 2, **fields})


def test_there_are_the_seven_of_the_study_and_the_joint_one():
    assert {cls.name for cls in list_methods("word-model")} == {*MODELS, "glove", "char-word"}


def test_frequent_words_are_kept_by_the_formula():
    found = read_words(["a " * 900 + "b " * 100], min_count=1)
    n, t = np.array([900, 100]), 0.05
    assert found.keep(t)[1:] == pytest.approx(np.minimum(1, (np.sqrt(n / (t * 1000)) + 1) * t * 1000 / n))
    assert (found.keep(0) == 1).all()


def test_an_alias_table_holds_its_distribution():
    chances = np.random.default_rng(0).dirichlet(np.ones(30))
    share, other = alias_table(chances)
    found = np.bincount(np.arange(30), share, 30) + np.bincount(other, 1 - share, 30)
    assert found / 30 == pytest.approx(chances, abs=1e-7)


def test_the_padding_is_never_noise():
    share, other = read_words(["a b a c"], min_count=1).noise()
    assert share[0] == 0
    assert 0 not in other[share < 1]


def test_long_lines_are_cut_and_single_words_left_out():
    assert pieces(np.array([5, 1, 0, 2]), most=2).tolist() == [[0, 2], [2, 4], [6, 8]]


def test_rare_words_are_dropped_before_windows_are_made():
    found = read_words(["a x b", "a b"], min_count=2)
    assert found.names == ["</s>", "a", "b"]
    assert found.tokens.tolist() == [1, 2, 1, 2]
    assert found.total == 5
    with pytest.raises(CorpusError, match="lower min_count"):
        read_words(["a b"], min_count=2)


def expected_loss(name, tables, tokens, noise, side):
    """The study's frame in torch, one line, noise of one word."""
    first, *rest = tables
    total = torch.zeros((), dtype=torch.float64)
    for at, word in enumerate(tokens):
        near = [n for n in range(at - side, at + side + 1) if n != at]
        slots = [tokens[n] if 0 <= n < len(tokens) else 0 for n in near]
        inside = [tokens[n] for n in near if 0 <= n < len(tokens)]
        targets = [(word, 1.0)] + ([(noise, -1.0)] if noise != word else [])
        if name == "skipgram":
            scores = [(sign * (first[c] @ rest[0][w])) for c in inside for w, sign in targets]
        elif name == "cw":
            around, middle, top = rest
            x = torch.cat([first[c] for c in slots])
            scores = [sign * (top[0] @ torch.tanh(around @ x + middle @ first[w])) for w, sign in targets]
        else:
            x = first[slots].mean(0) if name == "cbow" else torch.cat([first[c] for c in slots])
            h = {"lbl": lambda x: rest[1] @ x, "nnlm": lambda x: torch.tanh(rest[1] @ x)}.get(name, lambda x: x)(x)
            scores = [sign * (h @ rest[0][w]) for w, sign in targets]
        total = total - torch.nn.functional.logsigmoid(torch.stack(scores)).sum()
    return total


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradient_are_those_of_the_equations(name):
    prepared = one_noise("b c a d c e", word=1)
    model = plain(name, **({"hidden": 3} if name in ("lbl", "nnlm", "cw") else {}))
    random = np.random.default_rng(0)
    start = [random.normal(0, 0.4, one.shape).astype(np.float32) for one in model.tables(prepared.words, random)]
    tables = [torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in start]
    wanted = expected_loss(name, tables, prepared.words.tokens.tolist(), 1, 2)
    wanted.backward()
    assert loss_of(model, prepared, placed(*start)) == pytest.approx(wanted.item(), rel=1e-5)
    rate, weights = 1e-3, placed(*start)
    model.go(prepared, weights, part(prepared, rate))
    for before, after, one in zip(start, weights.tables, tables, strict=True):
        if one.grad is not None:
            assert (before - after) / rate == pytest.approx(one.grad.numpy(), abs=0.01 * float(one.grad.abs().max()))


def test_order_reduces_to_pairs_and_cbow_to_skipgram():
    prepared, random = one_noise("b a", word=1), np.random.default_rng(0)
    e, out = random.normal(size=(3, 4)), random.normal(size=(3, 4))
    e[0] = 0
    pairs = loss_of(plain("skipgram", window=1), prepared, placed(e, out))
    assert loss_of(plain("order", window=1), prepared, placed(e, np.hstack([out, out]), [[0]])) == pytest.approx(pairs, rel=1e-6)
    assert loss_of(plain("cbow", window=1, padded=False), prepared, placed(e, out, [[0]])) == pytest.approx(pairs, rel=1e-6)
    # a window of one word, four times over, is that word
    prepared = one_noise("a a b a a", word=2)
    same = Prepared(prepared.words, prepared.units, prepared.keep, prepared.share, prepared.other)
    middle = expected_loss("cbow", [torch.tensor(e), torch.tensor(out)], [1, 1, 2, 1, 1], 2, 2)
    assert loss_of(plain("cbow"), same, placed(e, out, [[0]])) == pytest.approx(float(middle), rel=1e-5)


def test_lbl_that_averages_is_cbow_and_nnlm_without_curvature_is_lbl():
    prepared, random = one_noise("b c a d c e"), np.random.default_rng(0)
    size = len(prepared.words.names)
    e, out = random.normal(size=(size, 4)), random.normal(size=(size, 4))
    averaging = np.hstack([np.eye(4)] * 4) / 4
    lbl = loss_of(plain("lbl", hidden=4), prepared, placed(e, out, averaging))
    assert lbl == pytest.approx(loss_of(plain("cbow"), prepared, placed(e, out, [[0]])), rel=1e-5)
    small = 0.01 * averaging
    gap = loss_of(plain("nnlm", hidden=4), prepared, placed(e, out, small)) - loss_of(
        plain("lbl", hidden=4), prepared, placed(e, out, small)
    )
    assert abs(gap) < 1e-4


def test_skipgram_with_room_enough_finds_pmi():
    random = np.random.default_rng(0)
    text = "\n".join(f"{'abcde'[i]} {'abcde'[j]}" for i, j in random.integers(5, size=(4000, 2)))
    found = read_words([text], min_count=1)
    model = plain("skipgram", dim=8, window=1, negatives=2, epochs=40, rate=0.05, validation=0)
    prepared, weights = model.prepare(found), model.start(found, 0)
    for number in range(40):
        rate = 0.05 * (1 - number / 40) + 1e-4
        model.go(prepared, weights, Part(found.lines, np.full(2, rate, np.float32), np.array([number + 1], np.uint64), learning=True))
    inputs, outputs = (one[1:] for one in weights.tables)
    pairs = count_pairs(found, 1).toarray()[1:, 1:]
    noise = found.counts[1:] ** 0.75 / (found.counts[1:] ** 0.75).sum()
    left = pairs.sum(1, keepdims=True) - pairs  # noise equal to the target is left out: pairs of a context with other targets
    wanted = np.log(pairs / (model.negatives * noise[None, :] * left))
    assert np.abs(inputs @ outputs.T - wanted).mean() < 0.05


def test_glove_with_room_enough_finds_counts():
    found = read_words([" ".join(TEXT)], min_count=1)
    model = resolve("word-model", "glove", {"dim": 16, "epochs": 800, "t": 0, "x_max": 1, "validation": 0, "rate": 0.1})
    prepared, weights = model.prepare(found), model.start(found, 0)
    for _ in range(model.epochs):
        model.go(prepared, weights, Part(prepared.units, np.zeros(2, np.float32), np.array([1], np.uint64), learning=True))
    w, c, b, d = weights.tables
    rows, columns = prepared.units.rows, prepared.units.columns
    fitted = (w[rows] * c[columns]).sum(1) + b[rows, 0] + d[columns, 0]
    assert fitted == pytest.approx(np.log(prepared.units.amounts), abs=0.05)


def test_pairs_are_counted_by_distance_within_lines():
    found = read_words(["a b a c\nc b"], min_count=1)
    at, x = found.index, count_pairs(found, 2).toarray()
    assert x[at["a"], at["b"]] == 2  # once before, once after
    assert x[at["a"], at["a"]] == 1  # a half each way
    assert x[at["b"], at["c"]] == 0.5 + 1
    assert (x == x.T).all()


@pytest.mark.parametrize("name", ["skipgram", "nnlm", "glove"])
def test_a_seed_gives_the_same_vectors_and_learning_lowers_the_loss(name):
    found = read_words(TEXT, min_count=1)
    model = resolve("word-model", name, {"dim": 8, "window": 2, "epochs": 6, "t": 0, "validation": 0.2})
    first, again, other = (fit(model, found, seed=seed) for seed in (0, 0, 1))
    assert (first.vectors == again.vectors).all()
    assert not (first.vectors == other.vectors).all()
    assert first.epochs[-1].validation < first.epochs[0].validation


@pytest.mark.parametrize("name", ["skipgram", "glove"])
def test_speed_does_not_count_compilation(name, monkeypatch):
    model, timed = resolve("word-model", name, {"dim": 4, "epochs": 1, "t": 0}), []
    go, clock = type(model).go, iter(range(100))

    def watched(self, words, weights, part):
        timed.append((len(part.units), part.learning))
        return go(self, words, weights, part)

    monkeypatch.setattr(type(model), "go", watched)
    monkeypatch.setattr("regraft.text.words.trainer.time.perf_counter", lambda: timed.append("clock") or float(next(clock)))
    fit(model, read_words(TEXT, min_count=1))
    assert timed[0] == (0, True)
    assert timed.index("clock") > 0


@pytest.mark.parametrize(("rate", "said"), [(1000, True), (0.025, False)])
def test_a_rate_that_diverges_is_said(tmp_path, rate, said):
    (tmp_path / "c.txt").write_text("\n".join(TEXT))
    model = resolve("word-model", "skipgram", {"dim": 8, "t": 0, "rate": rate})
    report, figures = words([tmp_path / "c.txt"], model, out=tmp_path / "o", reading=Reading(min_count=1))
    assert any("lower the rate" in note for note in figures["notes"]) == ("lower the rate" in report.lead) == said
    settings, pairs = {"dim": 8, "t": 0, "rate": rate}, [str(write_pairs(tmp_path / "pairs.csv"))]
    compare([tmp_path / "c.txt"], "skipgram", settings=settings, out=tmp_path / "p", reading=Reading(min_count=1), tasks=pairs)
    assert ("lower the rate" in (tmp_path / "p" / "comparison.html").read_text("utf-8")) == said


def test_two_threads_share_the_text():
    found = read_words(TEXT, min_count=1)
    fitted = fit(resolve("word-model", "cbow", {"dim": 8, "epochs": 2, "t": 0}), found, workers=2)
    assert np.isfinite(fitted.vectors).all()
    assert len(fitted.epochs) == 2


def test_gain_ratio_is_0_for_random_and_100_for_the_best():
    assert [performance_gain_ratio(value, 0.2, 0.7) for value in (0.2, 0.7, 0.1)] == pytest.approx([0, 100, -20])
    assert performance_gain_ratio(0.2, 0.2, 0.2) is None


def test_texts_are_means_of_known_words():
    found = read_words(["a b"], min_count=1)
    encode = mean_of_words(table(found, np.array([[9, 9], [1, 0], [0, 3]], np.float32)))
    assert encode(["A, b!", "a zebra", "zebra"], "text").tolist() == [[0.5, 1.5], [1, 0], [0, 0]]


def test_tasks_of_words_have_closed_forms():
    rows = {"man": [1, 0, 0], "king": [1, 1, 0], "woman": [0, 0, 1], "queen": [0, 1, 1], "x": [1, 0, 1]}

    def encode(texts, role):
        return np.array([rows.get(text, [0, 0, 0]) for text in texts], np.float32)

    task = Analogies("g", "accuracy", "", (("man", "king", "woman", "queen"), ("man", "king", "queen", "x"), ("a", "king", "x", "man")))
    assert task.measure(encode).amounts[0].tolist() == [1, 0, 0]
    chosen = Synonyms("s", "accuracy", "", (("man", "king", "woman"), ("man", "woman", "king"), ("zz", "man", "king")))
    assert chosen.measure(encode).amounts[0].tolist() == [1, 0, 0.5]


@pytest.mark.parametrize("form", ["text", "npy"])
def test_what_is_written_opens_again(tmp_path, form):
    (tmp_path / "c.txt").write_text("\n".join(TEXT))
    model = resolve("word-model", "cbow", {"dim": 4, "epochs": 2, "t": 0})
    _, figures = words([tmp_path / "c.txt"], model, out=tmp_path / "o", reading=Reading(min_count=1), format=form, snapshots=True)
    opened = open_vectors(figures["out"])
    assert opened.dim == 4
    assert len(opened.words) == figures["vocabulary"] == 11
    last = open_vectors(figures["out"].replace("vectors.", "snapshots/epoch-2."))
    assert (opened.matrix == last.matrix).all()
    assert json.loads((tmp_path / "o" / "regraft.json").read_text())["method"]["name"] == "cbow"


def test_a_development_task_ends_training_and_keeps_the_best_pass(tmp_path):
    (tmp_path / "c.txt").write_text("\n".join(TEXT))
    write_pairs(tmp_path / "dev.csv")
    model = resolve("word-model", "cbow", {"dim": 8, "epochs": 30, "t": 0})
    _, figures = words(
        [tmp_path / "c.txt"], model, out=tmp_path / "o", reading=Reading(min_count=1), dev=str(tmp_path / "dev.csv"), patience=2
    )
    scores = [row["dev:dev"] for row in figures["curve"]]
    assert scores.index(max(scores)) + 1 == figures["epoch"] == len(scores) - 2


def test_models_stand_beside_random_vectors(tmp_path):
    (tmp_path / "c.txt").write_text("\n".join(TEXT))
    write_pairs(tmp_path / "pairs.csv")
    done = compare(
        [tmp_path / "c.txt"], "skipgram,cbow", settings={"dim": 8, "t": 0, "shrink": True}, out=tmp_path / "o",
        reading=Reading(min_count=1), tasks=[str(tmp_path / "pairs.csv")],
    )  # fmt: skip
    assert done.rows[0]["method"] == "random"
    assert {row["method"] for row in done.rows} == {"random", "skipgram", "cbow"}
    assert done.rows[0]["pgr"] in (0, None)
    assert f"{5 * 60:,} words are" in done.advice
    assert "words of 55 of 55 known" in (tmp_path / "o" / "comparison.html").read_text("utf-8")
    assert (tmp_path / "o" / "comparison.html").is_file()
    with pytest.raises(ParameterError, match="no model that is compared has it"):
        compare([tmp_path / "c.txt"], "cbow", settings={"hidden": 3})
    with pytest.raises(ParameterError, match="different models"):
        compare([tmp_path / "c.txt"], "cbow,cbow")


def test_advice_says_when_to_go_on():
    rows = [
        {"method": "random", "quality": 0.1},
        {"method": "cbow", "quality": 0.5, "epoch": 5, "passes": 5, "words_per_second": 9, "loss_lowest_at": 2},
        {"method": "nnlm", "quality": 0.2, "epoch": 5, "passes": 5, "words_per_second": 1, "behind_first_low": 0.1},
    ]
    assert advise(rows, 1_000_000).startswith("Take cbow; it was best after its last pass")
    unwatched = {key: value for key, value in rows[1].items() if key != "loss_lowest_at"}
    assert advise([rows[0], unwatched], 1_000_000).startswith("Take cbow. 1,000,000 words")
    assert "stop after pass 3" in advise([rows[0], rows[1] | {"epoch": 3}], 1_000_000)


def test_where_random_vectors_are_unbeaten_nothing_is_advised():
    rows = [{"method": "random", "quality": 0.5}, {"method": "cbow", "quality": 0.4, "epoch": 5, "passes": 5, "words_per_second": 9}]
    assert advise(rows, 12_345).startswith("Nothing was learned")
    assert "12,345 words" in advise(rows, 12_345)
    close = [{"method": "random", "quality": 0.3, "behind_first_low": -0.01}, rows[1]]
    assert advise(close, 12_345).startswith("Nothing was learned")
    assert advise([close[0] | {"behind_first_low": 0.01}, rows[1]], 12_345).startswith("Take cbow")


def test_a_task_of_too_few_known_words_is_not_scored(tmp_path):
    (tmp_path / "c.txt").write_text("\n".join(TEXT))
    strange = [(f"{a}x", b, score) for a, b, score in PAIRS]
    for name, pairs in (("nine", strange + PAIRS[:9]), ("ten", strange + PAIRS[:10])):
        write_pairs(tmp_path / f"{name}.csv", pairs)
    model, reading = resolve("word-model", "cbow", {"dim": 4, "epochs": 1, "t": 0}), Reading(min_count=1)
    tasks = [str(tmp_path / "nine.csv"), str(tmp_path / "ten.csv")]
    report, figures = words([tmp_path / "c.txt"], model, out=tmp_path / "o", reading=reading, tasks=tasks)
    assert set(figures["tasks"]) == {"ten"}
    assert figures["known"] == {"nine": 9, "ten": 10}
    assert "nine: not scored, words of 9 of 64 are known" in report.lead
    assert "10 of 65 known" in report.lead
    done = compare([tmp_path / "c.txt"], "cbow", settings={"dim": 4, "t": 0}, reading=reading, tasks=tasks)
    assert done.rows[0]["quality"] == done.rows[0]["ten"]
    assert all("nine" not in row for row in done.rows)
    with pytest.raises(ParameterError, match="nine 9 of 64"):
        compare([tmp_path / "c.txt"], "cbow", reading=reading, tasks=tasks[:1])
    with pytest.raises(ParameterError, match="--dev nine: words of 9 of 64 are known"):
        words([tmp_path / "c.txt"], model, out=tmp_path / "p", reading=reading, dev=tasks[0])
    assert not (tmp_path / "p").exists()


def test_the_verb(tmp_path):
    (tmp_path / "c.txt").write_text("\n".join(TEXT))
    call = ["text", "words", str(tmp_path / "c.txt"), "--out", str(tmp_path / "o"), "--min-count", "1", "--json"]
    done = CliRunner().invoke(app, [*call, "--model", "cbow", "--set", "dim=4", "--set", "epochs=1"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["dimensions"] == 4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "cbw"], "did you mean cbow"),
        (["--set", "dim=0"], "dim"),
        (["--cut", "x"], "choose letters or spaces"),
        (["--min-count", "999"], "lower min_count"),
        (["--tasks", "nothing"], "unknown task"),
        (["--compare", "glove,nix"], "unknown word-model"),
        (["--compare", "cbow", "--model", "cbow"], "--model is for one model and --compare for several"),
        (["--compare", "cbow", "--format", "npy"], "--format is for one model"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, more, said):
    (tmp_path / "c.txt").write_text("\n".join(TEXT))
    done = CliRunner().invoke(app, ["text", "words", str(tmp_path / "c.txt"), "--out", str(tmp_path / "o"), *more])
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "o").exists()


def test_nothing_is_written_into_a_corpus_or_over_a_model(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c.txt").write_text("\n".join(TEXT))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for more in (["--model", "cbow"], ["--compare", "cbow"]):
        done = CliRunner().invoke(app, ["text", "words", str(tmp_path / "in"), "--out", str(tmp_path / "in" / "sub"), *more])
        assert done.exit_code == 2
        assert "lies inside the input" in " ".join(done.output.split())
    for call in (["words", str(tmp_path / "in"), "--compare", "cbow"], ["compare", str(tmp_path / "in")]):
        done = CliRunner().invoke(app, ["text", *call, "--out", str(tmp_path / "model")])
        assert done.exit_code == 2
        assert "holds a model or another output (config.json)" in " ".join(done.output.split())
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"c.txt", "config.json"}


def test_passes_are_whole_on_an_axis():
    figure = training_curves({"a": [(1.0, 0.1), (2.0, 0.2), (12.0, 0.3)]}, x_title="passes")
    assert list(figure.layout.xaxis.tickvals) == [0, 2, 4, 6, 8, 10, 12]
    assert "passes" in figure.data[0].hovertemplate
    assert training_curves({"a": [(0.5, 0.1), (2.0, 0.2)]}).layout.xaxis.tickvals is None


def test_sentences_on_films_have_two_labels_and_three_sides():
    from regraft import datasets
    from regraft.text.tasks.named import open_task, polarity

    try:
        datasets.fetch("movie-sentences", "rt-polarity.all")
    except CorpusError:
        pytest.skip("the data set is not here")
    found = polarity()
    assert len(found) == 10_662
    assert sum(label == "1" for _, label in found) == sum(label == "0" for _, label in found)
    asked, dev = open_task("mr"), open_task("mr-dev")
    assert not {text for text, _ in asked.test} & {text for text, _ in [*asked.train, *dev.train, *dev.test]}
    assert asked.train == dev.train


def test_characters_are_predicted_beside_words():
    found = read_words(["ab ba cab"], min_count=1)
    model = plain("char-word", dim=3, window=1)
    prepared = model.prepare(found)
    assert prepared.pieces.names == ["a", "b", "c"]
    assert prepared.pieces.counts.tolist() == [3, 3, 1]
    size, random = len(found.names), np.random.default_rng(0)
    one = type(prepared)(
        found, found.lines, np.ones(size, np.float32), np.zeros(size, np.float32), np.full(size, 1, np.int32), prepared.pieces,
        (np.zeros(3, np.float32), np.full(3, 2, np.int32)),
    )  # fmt: skip
    start = [random.normal(0, 0.5, (size + 3, 3)).astype(np.float32) for _ in range(2)]
    e, out = (torch.tensor(table_, dtype=torch.float64, requires_grad=True) for table_ in start)
    total, tokens = torch.zeros((), dtype=torch.float64), found.tokens.tolist()
    for at, word in enumerate(tokens):
        around = [tokens[n] for n in (at - 1, at + 1) if 0 <= n < len(tokens)]
        name = found.names[word]
        asked = [(around, word, 1)]
        asked += [
            ([*around, *(size + "abc".index(name[n]) for n in (k - 1, k + 1) if 0 <= n < len(name))], size + "abc".index(name[k]), size + 2)
            for k in range(len(name))
        ]
        for given, target, noise in asked:
            x = e[given].mean(0)
            total = total - torch.nn.functional.logsigmoid(x @ out[target])
            if noise != target:
                total = total - torch.nn.functional.logsigmoid(-x @ out[noise])
    total.backward()
    assert loss_of(model, one, placed(*start)) == pytest.approx(total.item(), rel=1e-5)
    weights = placed(*start)
    model.go(one, weights, part(one, 1e-3))
    for before, after, wanted in zip(start, weights.tables, (e, out), strict=True):
        assert (before - after) / 1e-3 == pytest.approx(wanted.grad.numpy(), abs=0.01 * float(wanted.grad.abs().max()))


def test_without_pieces_it_is_cbow_and_pieces_are_what_the_callback_gives(tmp_path):
    found = read_words(["b c a d c e"], min_count=1)
    model = plain("char-word", pieces=lambda word: [])
    e, out = (np.random.default_rng(seed).normal(size=(6, 4)) for seed in (0, 1))
    none = model.prepare(found)
    one = type(none)(found, found.lines, none.keep, np.zeros(6, np.float32), np.full(6, 1, np.int32), none.pieces, none.piece_noise)
    cbow = loss_of(plain("cbow", padded=False), one_noise("b c a d c e"), placed(e, out, [[0]]))
    assert loss_of(model, one, placed(e, out)) == pytest.approx(cbow, rel=1e-6)
    (tmp_path / "c.txt").write_text("\n".join(TEXT))
    halves = resolve("word-model", "char-word", {"dim": 4, "epochs": 1, "t": 0, "pieces": lambda word: [word[:2], word[2:]]})
    words([tmp_path / "c.txt"], halves, out=tmp_path / "o", reading=Reading(min_count=1))
    assert {"ca", "t", "do", "g"} <= set(open_vectors(tmp_path / "o" / "pieces.vec").words)
