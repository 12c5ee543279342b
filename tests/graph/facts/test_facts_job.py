"""Facts as they come, models trained by PyKEEN's loop and kept without a pickle, answers with their spread, and bad input."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import CheckpointError, InputError
from regraft.graph.facts.compare import compare
from regraft.graph.facts.data import Facts, open_facts
from regraft.graph.facts.job import load, train
from regraft.graph.facts.learning import Schedule, figures, hits, learn, ranks
from regraft.graph.facts.lines import read_facts
from regraft.method import resolve

SMALL = {"dim": 8}
HALF = 6
ONCE = Schedule(epochs=2, batch=64)


def halves():
    """Everyone of one half likes everyone of the other, and is liked: what is left out follows."""
    rows = [(f"a{one}", "likes", f"b{other}") for one in range(HALF) for other in range(HALF)]
    return rows + [(tail, "liked-by", head) for head, _, tail in rows]


def written(path, rows):
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("halves")
    rows = halves()
    held = rows[1 : HALF * HALF : HALF + 1][:4]
    written(place / "train.txt", [row for row in rows if row not in held])
    written(place / "valid.txt", held[:2])
    written(place / "test.txt", held[2:])
    return place


@pytest.fixture(scope="module")
def kept(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept") / "model"
    _, told = train(folder, out=out, settings=SMALL | {"variant": 1}, schedule=Schedule(epochs=20, batch=16, rate=0.05))
    return out, told


class TestReading:
    def test_a_folder(self, folder):
        facts = open_facts(folder)
        assert (len(facts.entities), facts.relations) == (2 * HALF, ("liked-by", "likes"))
        assert [len(part) for part in (facts.train, facts.valid, facts.test)] == [2 * HALF * HALF - 4, 2, 2]

    def test_one_file_is_split_with_every_name_in_train(self, tmp_path):
        facts = open_facts(written(tmp_path / "facts.tsv", halves()))
        assert len(facts.test) == len(facts.valid) == len(halves()) // 10
        assert sum(map(len, (facts.train, facts.valid, facts.test))) == len(halves())
        assert set(facts.train[:, [0, 2]].flatten().tolist()) == set(range(2 * HALF))
        everything = torch.cat([facts.train, facts.valid, facts.test])
        assert len(everything.unique(dim=0)) == len(everything)

    def test_the_hosts_own(self):
        facts = open_facts("umls")
        assert (len(facts.entities), len(facts.relations), len(facts.train), len(facts.test)) == (135, 46, 5216, 661)

    def test_names_that_train_has_not_are_said(self, tmp_path):
        written(tmp_path / "train.txt", halves())
        written(tmp_path / "valid.txt", [("a0", "likes", "b1"), ("a0", "likes", "nobody")])
        written(tmp_path / "test.txt", [("a0", "likes", "b1")])
        assert open_facts(tmp_path).notes == ("1 of 2 facts of valid have an entity or relation that train has not: left out",)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a\tr\tb\na\tr\n", "line 2: 2 names"),
            ("a\tr\tb\tc\n", "line 1: 4 names"),
            ("a\t\tb\n", "line 1: an empty relation"),
            ("\n a b c\n\n\ta\n", "line 4: 1 name:"),
            ("a b c d e\n", "line 1: 5 names"),
            ("a\tr\tb\n\na\tr\tb\tc\td\te\n", "line 3: 6 names"),
            ("a\tr\tb\na r b\n", "line 2: 1 name:"),
            ("a\tr\tb\xe9\n", "not UTF-8"),
            ("\n", "no facts"),
            ("a\tr\tb\n", "too few to split"),
        ],
    )
    def test_bad_files(self, tmp_path, text, said):
        (tmp_path / "facts.tsv").write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=said):
            open_facts(tmp_path / "facts.tsv")

    def test_lines_as_they_come(self, tmp_path, monkeypatch):
        monkeypatch.setattr("regraft.graph.facts.lines.BLOCK", 3)
        lines = ["\ufeffb\tis\ta", "", " b \tis\ta\t", 'NA\tnull\t"quoted', "a\tis\tNA", "  ", "a b\tis\ta", "a\tis\tNA", "#1\tis\ta"]
        (tmp_path / "facts.tsv").write_text("\n".join(lines), encoding="utf-8")
        found = read_facts([tmp_path / "facts.tsv"])
        rows = [(found.entities[head], found.relations[relation], found.entities[tail]) for head, relation, tail in found.parts[0]]
        assert rows == [("b", "is", "a"), ("NA", "null", '"quoted'), ("a", "is", "NA"), ("a b", "is", "a"), ("#1", "is", "a")]

    def test_nothing_there(self, tmp_path):
        with pytest.raises(InputError, match="choose umls"):
            open_facts(tmp_path / "none")
        with pytest.raises(InputError, match=r"has no train\.txt"):
            open_facts(tmp_path)


class TestLearning:
    def test_a_rule_is_found(self, kept):
        assert kept[1]["mrr"] > 0.8  # by chance about 0.35

    def test_ranks_are_pessimistic_and_filtered(self):
        facts = open_facts("nations")
        model = learn(resolve("fact-model", "nfe", SMALL), facts, Schedule(epochs=1)).model
        rows, known = facts.test[:20], torch.cat([facts.train, facts.valid, facts.test])
        found = ranks(model, rows, [facts.train, facts.valid, facts.test])
        with torch.no_grad():
            for number, (head, relation, tail) in enumerate(rows.tolist()):
                for side, scores, wanted, right in (
                    (0, model.predict_h(torch.tensor([[relation, tail]]))[0], 0, head),
                    (1, model.predict_t(torch.tensor([[head, relation]]))[0], 2, tail),
                ):
                    alike = (known[:, 1] == relation) & (known[:, 2 - wanted] == (tail if side == 0 else head))
                    others = torch.ones(len(scores), dtype=torch.bool)
                    others[known[alike, wanted]] = False
                    assert found[side, number] == 1 + int((scores[others] >= scores[right]).sum())

    def test_figures(self):
        found = figures(np.array([[1.0, 2.0], [4.0, 20.0]]))
        assert found["mrr"] == pytest.approx((1 + 0.5 + 0.25 + 0.05) / 4)
        assert hits(np.array([[1.0, 2.0], [4.0, 20.0]]), 8) == [(1, 0.25), (2, 0.5), (3, 0.5), (4, 0.75), (5, 0.75), (6, 0.75), (8, 0.75)]
        assert (found["hits@1"], found["hits@3"], found["hits@10"], found["mean_rank"]) == (0.25, 0.5, 0.75, 6.75)

    def test_the_same_seed_gives_the_same_and_the_best_epoch_stays(self, folder):
        facts, method = open_facts(folder), resolve("fact-model", "nfe", SMALL)
        one, two, other = (learn(method, facts, Schedule(epochs=6, batch=16), seed) for seed in (3, 3, 4))
        assert one.curve == two.curve != other.curve
        assert one.epoch == max(one.curve, key=lambda point: (point[1], -point[0]))[0]
        again = figures(ranks(one.model, facts.valid, [facts.train]))["mrr"]
        assert again == pytest.approx(max(value for _, value in one.curve))

    @pytest.mark.parametrize("name", ["rotate", "complex", "distmult", "transe"])
    def test_the_hosts_models_learn_too(self, folder, name):
        facts = open_facts(folder)
        found = learn(resolve("fact-model", name, SMALL), facts, Schedule(epochs=12, batch=16, rate=0.05))
        assert figures(ranks(found.model, facts.train, []))["mrr"] > 0.4

    def test_through_the_hosts_pipeline(self):
        from pykeen.pipeline import pipeline

        import regraft.graph.facts.flows.interaction  # noqa: F401  # registers it

        found = pipeline(
            dataset="nations",
            dataset_kwargs={"create_inverse_triples": True},
            model="nfe",
            model_kwargs={"embedding_dim": 8, "variant": 3, "gamma": 2.0},
            training_loop="onevsall",
            training_kwargs={"num_epochs": 1, "batch_size": 256, "use_tqdm": False},
            evaluation_kwargs={"batch_size": 64, "use_tqdm": False},
            random_seed=0,
        )
        assert 0 < found.get_metric("both.pessimistic.inverse_harmonic_mean_rank") < 1


class TestKept:
    def test_what_is_opened_again_answers_alike(self, kept, folder):
        facts = open_facts(folder)
        asked = load(kept[0])
        assert figures(ranks(asked.model, facts.test, [facts.train, facts.valid]))["mrr"] == pytest.approx(kept[1]["mrr"])
        assert (asked.facts.sha256, asked.facts.entities) == (facts.sha256, facts.entities)
        assert {path.suffix for path in kept[0].iterdir()} == {".json", ".safetensors", ".html"}

    def test_answers_come_with_spread_and_where_they_are_known(self, kept):
        asked = load(kept[0])
        head, _, tail = (int(one) for one in asked.facts.test[0])
        answers = asked.answers("likes", head=asked.facts.entities[head], count=HALF)
        assert {one["answer"] for one in answers} == {f"b{number}" for number in range(HALF)}
        assert {one["answer"]: one["known"] for one in answers}[asked.facts.entities[tail]] == "test"
        assert sorted((one["score"] for one in answers), reverse=True) == [one["score"] for one in answers]
        assert all(one["spread"] > 0 for one in answers)
        heads = asked.answers("likes", tail=asked.facts.entities[tail], count=HALF)
        assert {one["answer"] for one in heads} == {f"a{number}" for number in range(HALF)}

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"head": "a1x", "relation": "likes"}, "did you mean a1"),
            ({"head": "a1", "relation": "lkes"}, "unknown relation 'lkes': did you mean likes"),
            ({"relation": "likes"}, "give --head"),
            ({"relation": "likes", "head": "a1", "tail": "b2"}, "give --head"),
        ],
    )
    def test_unknown_names(self, kept, given, said):
        with pytest.raises(InputError, match=said):
            load(kept[0]).answers(**given)

    def test_a_relation_without_facts(self, kept):
        asked = load(kept[0])
        facts = asked.facts
        without = facts.train[facts.train[:, 1] != facts.relations.index("likes")]
        asked = type(asked)(asked.method, asked.model, Facts(facts.name, facts.entities, facts.relations, without, facts.valid, facts.test))
        with pytest.raises(InputError, match="'likes' has no facts"):
            asked.answers("likes", head="a1")

    def test_other_folders(self, tmp_path, kept):
        with pytest.raises(CheckpointError, match="no model of"):
            load(tmp_path)
        (tmp_path / "facts.json").write_text("{}", encoding="utf-8")
        (tmp_path / "model.safetensors").write_bytes(b"no")
        with pytest.raises(CheckpointError, match="cannot be read"):
            load(tmp_path)


class TestChoosing:
    def test_validation_decides(self, folder, tmp_path):
        choices = {"gamma": [0.0, 4.0], "dim": [1, 8]}
        schedule = Schedule(epochs=3, batch=16, rate=0.05)
        report, told = train(folder, out=tmp_path / "out", settings={"variant": 1}, choices=choices, schedule=schedule)
        assert [(row["gamma"], row["dim"]) for row in told["tried"]] == [(0.0, 1), (0.0, 8), (4.0, 1), (4.0, 8)]
        best = max(told["tried"], key=lambda row: row["validation_mrr"])
        kept = load(tmp_path / "out").method
        assert (kept.gamma, kept.dim, kept.variant) == (best["gamma"], best["dim"], 1)
        assert len({row["validation_mrr"] for row in told["tried"]}) > 1
        assert "Chosen by validation" in [section.title for section in report.sections]

    @pytest.mark.parametrize("given", ["gamma", "gamma=", "gamma=1,,2", "gama=1,2", "gamma=a,b"])
    def test_what_cannot_be_chosen(self, folder, tmp_path, given):
        call = ["graph", "facts", "train", "--dataset", str(folder), "--out", str(tmp_path / "out"), "--choose", given]
        assert CliRunner().invoke(app, call).exit_code == 2
        assert not (tmp_path / "out").exists()


def test_models_beside_each_other(folder, tmp_path):
    out = tmp_path / "out"
    small = dict.fromkeys(("nfe", "transe"), SMALL)
    done = compare(folder, models=["nfe:variant=1", "nfe:variant=point"], settings=small, schedule=ONCE, seeds=2, out=out)
    assert done.rows[0]["method"] == "transe"
    assert {row["method"] for row in done.rows[1:]} == {"nfe:variant=1", "nfe:variant=point"}
    assert all(row["error"] is None and row["behind_first_low"] <= row["behind_first"] <= row["behind_first_high"] for row in done.rows[2:])
    for row in done.rows:
        assert dict(map(tuple, row["hits"]))[10] == row["hits@10"]
        assert [share for _, share in row["hits"]] == sorted(share for _, share in row["hits"])
    lines = (out / "rows.jsonl").read_text("utf-8")
    again = compare(folder, models=["nfe:variant=1", "nfe:variant=point"], settings=small, schedule=ONCE, seeds=2, out=out)
    assert again.rows == done.rows
    assert (out / "rows.jsonl").read_text("utf-8") == lines
    page = (out / "comparison.html").read_text("utf-8")
    assert "held-out facts" in page
    assert "among the first k" in page


def test_the_command_line(folder, tmp_path):
    out = str(tmp_path / "model")
    call = ["graph", "facts", "train", "--dataset", str(folder), "--out", out, "--set", "dim=8", "--set", "variant=point"]
    found = CliRunner().invoke(app, [*call, "--epochs", "2", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout.splitlines()[-1])["model"] == "nfe"
    found = CliRunner().invoke(app, ["graph", "facts", "ask", out, "--head", "a1", "--relation", "likes", "--json"])
    assert [one["spread"] for one in json.loads(found.stdout)["answers"]] == [None] * 10
    assert CliRunner().invoke(app, ["graph", "facts", "ask", out, "--head", "nobody", "--relation", "likes"]).exit_code == 2
    assert CliRunner().invoke(app, call).exit_code == 2  # not empty
