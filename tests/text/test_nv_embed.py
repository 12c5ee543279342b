"""NV-Embed's training: the loss by a plain loop, rows that do not touch, pairs from labels and scores, stages, cached states, LoRA."""

import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from datasets import Dataset
from regraft.cli import app
from regraft.errors import CorpusError, ParameterError
from regraft.method import resolve
from regraft.text.fitting import Budget
from regraft.text.loading import is_stock, load
from regraft.text.modules.cached_states import CachedStates, cache_states
from regraft.text.train import train
from regraft.text.tuners.nv_embed.blend import Row, dataset, from_labels, from_pairs, from_scores, without
from regraft.text.tuners.nv_embed.loss import info_nce
from regraft.text.tuners.nv_embed.near import Bm25
from toys import models
from toys.models import texts

HEAD = {"latents": 4, "heads": 2, "dim_head": 4, "ff_mult": 1}


def drawn(seed=0, rows=4, k=3):
    make = torch.Generator().manual_seed(seed)
    queries, documents = torch.randn(rows, 5, generator=make), torch.randn(rows, k, 5, generator=make)
    ids = 100 + torch.arange(rows * k).reshape(rows, k)
    return queries.requires_grad_(), documents.requires_grad_(), torch.arange(rows), ids


def by_loop(queries, documents, in_batch, query_ids, ids, temperature):
    def s(a, b):
        return math.exp(float(torch.nn.functional.cosine_similarity(a, b, dim=0)) / temperature)

    total = 0.0
    for i, query in enumerate(queries):
        top, rest = s(query, documents[i, 0]), 0.0
        for j in range(len(queries)):
            for d in range(documents.shape[1]):
                one = int(ids[j, d])
                if one < 0 or (i == j and d == 0):
                    continue
                other = int(query_ids[j]) != int(query_ids[i]) and one not in (int(ids[i, 0]), int(query_ids[i]))
                if i == j or (bool(in_batch[i]) and other):
                    rest += s(query, documents[j, d])
        total -= math.log(top / (top + rest))
    return total / len(queries)


@pytest.mark.parametrize("policy", [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]])
def test_the_loss_is_a_plain_loop(policy):
    queries, documents, query_ids, ids = drawn()
    ids[1, 0] = ids[0, 0]  # two rows with one positive
    ids[2, 2] = -1  # no such negative
    ids[3, 1] = query_ids[0]  # a document that is another row's query
    query_ids[3] = query_ids[2]  # one query with two positives
    in_batch = torch.tensor(policy) == 1
    found = info_nce(queries, documents, in_batch, query_ids, ids, 0.1)
    assert float(found.detach()) == pytest.approx(by_loop(queries.detach(), documents.detach(), in_batch, query_ids, ids, 0.1), abs=1e-6)


def test_a_row_of_the_second_stage_hangs_on_no_other():
    for in_batch in (False, True):
        queries, documents, query_ids, ids = drawn()
        documents.grad = None
        policy = torch.tensor([in_batch, True, True, True])
        one = torch.nn.functional.normalize(queries, dim=-1)
        whole = info_nce(one, documents, policy, query_ids, ids, 0.1) * 4
        rest = info_nce(one[1:].detach(), documents[1:].detach(), policy[1:], query_ids[1:], ids[1:], 0.1) * 3
        (gradient,) = torch.autograd.grad(whole - rest, queries)
        assert gradient[0].abs().sum() > 0
        only = info_nce(queries, documents, torch.tensor([in_batch, False, False, False]), query_ids, ids, 0.1)
        (others,) = torch.autograd.grad(only, documents)
        apart = info_nce(queries[1:], documents[1:], torch.zeros(3, dtype=torch.bool), query_ids[1:], ids[1:], 0.1) * 3 / 4
        (own,) = torch.autograd.grad(apart, documents)
        assert torch.allclose(others[1:], own[1:], atol=1e-7) != in_batch  # what row 0 adds to the others' gradients


LABELLED = Dataset.from_list(
    [{"text": f"{label} {n}", "label": label} for label in "abc" for n in range(4)] + [{"text": "a 0", "label": "b"}]
)


def test_example_based_pairs_have_another_text_of_the_class_and_negatives_of_others():
    rows = from_labels(LABELLED, "", 5, how="examples", seed=0)
    labels = {}
    for one in LABELLED:
        labels.setdefault(one["text"], set()).add(one["label"])
    assert len(rows) == 13
    for row in rows:
        assert row.positive != row.query
        assert labels[row.positive] & labels[row.query]
        assert row.symmetric
        assert len(set(row.negatives)) == len(row.negatives) > 0
        assert not any(labels[one] & labels[row.query] for one in row.negatives)
    assert {row.query for row in rows} == set(labels)


def test_label_based_pairs_have_the_names():
    rows = from_labels(LABELLED, "task", 7, how="names", seed=0)
    assert all(row.positive in row.query or row.query == "a 0" for row in rows)
    assert all(not row.symmetric and row.positive not in row.negatives for row in rows)
    assert {row.query: set(row.negatives) for row in rows}["c 1"] == {"a", "b"}
    assert {row.query: set(row.negatives) for row in rows}["a 0"] == {"c"}  # two labels, neither is a negative


def scored(*rows):
    return Dataset.from_list([{"sentence1": a, "sentence2": b, "score": float(score)} for a, b, score in rows])


def test_scored_pairs_go_both_ways_and_what_is_alike_is_no_negative():
    data = scored(("a cat sat", "a cat lay", 5), ("a cat sat", "a cat ran", 3), ("a map", "a cat sat down", 0), ("old hat", "new hat", 4.5))
    rows = from_scores(data, "", 2, positive=0.8, negative=0.5)
    assert [(row.query, row.positive) for row in rows] == [
        ("a cat sat", "a cat lay"), ("a cat lay", "a cat sat"), ("old hat", "new hat"), ("new hat", "old hat"),
    ]  # fmt: skip
    assert "a cat ran" not in rows[0].negatives  # 3 of 5
    assert rows[0].negatives[0] == "a cat sat down"  # the nearest by its words
    assert all(row.symmetric for row in rows)
    with pytest.raises(CorpusError, match=r"no pair of two texts has a score of 0\.8 of the highest"):
        from_scores(scored(("a", "A", 5), ("a", "b", 1)), "", 2, positive=0.8, negative=0.5)


def test_bm25_by_hand():
    pool = ["cat cat map", "map", "hat rat old"]
    index = Bm25(pool)
    idf = {word: math.log1p((3 - n + 0.5) / (n + 0.5)) for word, n in {"cat": 1, "map": 2}.items()}
    length = 7 / 3
    tf = 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 3 / length)) * idf["cat"] + 2.5 / (1 + 1.5 * (0.25 + 0.75 * 3 / length)) * idf["map"]
    (found,) = index.scores(["cat map"])
    assert found[0, 0] == pytest.approx(tf)
    assert found[0, 2] == 0
    assert next(iter(Bm25(["!"]).scores(["cat"]))).tolist() == [[0.0]]


def test_rows_that_hold_evaluation_texts_are_left_out():
    rows = [Row(f"{text} here", f"{text} there", (f"{text} nowhere",)) for text in dict.fromkeys(texts(30, 1))]
    words = rows[4].query.split()
    held = [
        rows[0].query.upper() + "!",
        rows[1].positive,
        rows[2].negatives[0],
        " ".join([*words[1:], words[0]]),
        "something else entirely",
    ]
    exact = without(rows, held, 1.0)
    assert [row.query for row in exact] == [row.query for row in rows if row not in rows[:2]]
    assert exact[0].negatives == ()
    near = without(rows, held, 0.9)
    assert rows[4].query not in {row.query for row in near}  # the same words in another order
    assert len(near) >= len(rows) - 6


def test_instructions_stand_on_queries_and_on_both_sides_of_symmetric_rows():
    data = dataset([Row("q", "p", ("n",), "find", retrieval=True), Row("a", "b", ("c", "d"), "sort", symmetric=True)], [True, False])
    assert data[0]["anchor"] == "Instruct: find\nQuery: q"
    assert data[0]["positive"] == "p"
    assert data[1]["negative_2"] == "Instruct: sort\nQuery: d"
    assert data["label"][0][0] == 1
    assert data["label"][0][4] == -1  # has one negative, not two
    assert data["label"][1][0] == 0


def test_stages_and_their_policies():
    rows = [Row("q", "p", ("n",), retrieval=True), Row("a", "b", ("c",))]
    plan = {
        stages: resolve("tuner", "nv-embed", {"stages": stages}).plan(rows) for stages in ("two", "reversed", "in-batch", "own", "by-task")
    }
    assert [(name, len(part), policy) for name, part, policy in plan["two"]] == [("stage-1", 1, [True]), ("stage-2", 2, [False, False])]
    assert [name for name, *_ in plan["reversed"]] == ["stage-2", "stage-1"]
    assert [plan[one][0][2] for one in ("in-batch", "own", "by-task")] == [[True, True], [False, False], [True, False]]
    assert [name for name, *_ in resolve("tuner", "nv-embed").plan(rows[1:])] == ["stage-2"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nv") / "llama"
    models.llama(layers=2).save_pretrained(folder)
    models.tokenizer(True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")

    def write(name, rows):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    some = list(zip(texts(60, 1), texts(60, 2), strict=True))
    write("pairs.jsonl", [{"anchor": f"cat {a}", "positive": f"{a} cat", "negative_1": f"map {b}"} for a, b in some])
    write("labels.jsonl", [{"text": f"{'cat' if n % 2 else 'map'} {a}", "label": "cm"[n % 2]} for n, (a, _) in enumerate(some)])
    write("scored.jsonl", [{"sentence1": a, "sentence2": f"{a} hat", "score": 5.0} for a, _ in some])
    write(
        "test.jsonl", [{"sentence1": f"cat {a}", "sentence2": f"{a} cat" if n % 2 else b, "score": n % 2} for n, (a, b) in enumerate(some)]
    )
    return folder


@pytest.mark.parametrize("parameters", ["head", "lora", "all"])
def test_two_stages_over_mixed_tasks_train_what_they_should_and_nothing_else(parameters, small, files):
    model = resolve("encoder", "nv-embed", HEAD).build(small)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuner = resolve("tuner", "nv-embed", {
        "trains": parameters, "negatives": 2, "instruction": "find", "also": f"{files / 'labels.jsonl'},{files / 'scored.jsonl'}",
    })  # fmt: skip
    budget = Budget(steps=30, batch_size=8, lr=5e-3)
    tuner.train(model, Dataset.from_json(str(files / "pairs.jsonl")), budget)
    after = model.state_dict()
    assert after.keys() == before.keys()  # no adapter is left
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    backbone = {name for name in moved if name.startswith("0.")}
    assert bool(backbone) == (parameters != "head")
    assert any("mlp" in name for name in backbone) == (parameters != "head")
    assert any("embed" in name or "norm" in name for name in backbone) == (parameters == "all")
    assert {"1.array", "1.q.weight"} <= moved
    assert [step for step, _ in budget.curve] == list(range(1, 31))
    first, second = budget.curve[:16], budget.curve[16:]
    assert model.prompts["query"] == "Instruct: find\nQuery: "
    assert np.mean([loss for _, loss in first[-4:]]) < first[0][1]
    assert np.mean([loss for _, loss in second[-8:]]) < math.log(3)  # that of guessing among three


def test_the_command_from_pairs_to_an_encoder_that_load_opens(small, files, tmp_path):
    out = tmp_path / "out"
    call = ["text", "train", str(small), "--pooling", "nv-embed", "--method", "nv-embed", "--examples", str(files / "pairs.jsonl")]
    more = ["--set", "trains=head", "--tasks", str(files / "test.jsonl"), "--steps", "6", "--batch-size", "8", "--out", str(out)]
    done = CliRunner().invoke(app, [*call, *more, "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["open"] == f"regraft.text.load('{out}')"
    assert not is_stock(out)
    model = load(out)
    assert model[0].attention == "config"
    assert model[1].trained
    again = CliRunner().invoke(app, ["text", "compare", str(out), "--tasks", str(files / "test.jsonl"), "--json"])
    assert json.loads(again.stdout.splitlines()[-1])["rows"][0]["quality"] == pytest.approx(figures["tasks"][0]["after"], abs=1e-5)


def test_a_killed_head_goes_on_over_the_states_it_has(small, files, tmp_path):
    class KilledError(Exception):
        pass

    settings = {"trains": "head", "negatives": 1, "stages": "own"}
    options = {
        "examples": [str(files / "pairs.jsonl")], "method": "nv-embed", "settings": settings, "encode_by": "nv-embed", "tasks": "",
        "budget": Budget(steps=8, batch_size=8, lr=1e-3, save_every=3),
    }  # fmt: skip
    torch.manual_seed(0)
    train(small, out=tmp_path / "whole", **options)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:

        def stop(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KilledError

        patch.setattr("regraft.text.fitting._Watch.on_step_end", stop)
        with pytest.raises(KilledError):
            train(small, out=tmp_path / "cut", **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regraft.text.modules.cached_states._states", None)  # they are there
        train(small, out=tmp_path / "cut", **options)
    rows = [load(tmp_path / name).encode(["the cat sat"]) for name in ("whole", "cut")]
    np.testing.assert_allclose(*rows, atol=1e-5)


def test_cached_states_are_the_models_own_in_half_precision(small, tmp_path):
    model = resolve("encoder", "nv-embed", {"pooling": "mean", "instruction": "find"}).build(small)
    given = [*texts(40, 3), "Instruct: find\nQuery: the cat"]
    states = CachedStates(cache_states(model[0], given, tmp_path / "s.safetensors"))
    found = states.preprocess(given)
    alone = model[0](model[0].preprocess(given[:1]))
    np.testing.assert_allclose(
        found["token_embeddings"][0, : alone["token_embeddings"].shape[1]], alone["token_embeddings"][0].detach(), atol=5e-3
    )
    assert found["pooling_mask"][-1].sum() == model[0].preprocess(given[-1:])["pooling_mask"].sum() < found["attention_mask"][-1].sum()
    with pytest.raises(CorpusError, match="no cached states of 'unseen'"):
        states.preprocess(["unseen"])


@pytest.mark.parametrize(
    ("settings", "rows", "error", "said"),
    [
        ({}, [{"anchor": "a", "positive": "b"}], CorpusError, "no negative of its own for 'a'"),
        ({}, [{"text": t, "label": "x"} for t in "abc"], CorpusError, "all 3 texts have the label 'x'"),
        ({}, [{"text": t, "label": t} for t in "abc"], CorpusError, "no class has two different texts"),
        ({"trains": "head"}, [{"anchor": "a", "positive": "b", "negative_1": "c"}], ParameterError, "take dense=true, or lora"),
        ({"against": "TEST"}, [{"anchor": "a", "positive": "b", "negative_1": "c"}], CorpusError, "nothing is left to train on"),
    ],
)
def test_examples_that_teach_nothing_are_one_line(settings, rows, error, said, small, tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"sentence1": "a", "sentence2": "b", "score": 1}) + "\n")
    settings = {name: str(tmp_path / "t.jsonl") if value == "TEST" else value for name, value in settings.items()}
    model = resolve("encoder", "nv-embed", {"pooling": "mean"}).build(small)
    with pytest.raises(error, match=said):
        resolve("tuner", "nv-embed", settings).train(model, Dataset.from_list(rows), Budget(steps=1))


def test_pairs_bring_their_negatives_once_and_never_the_positive():
    data = Dataset.from_list([{"anchor": "a", "positive": "p", "negative_1": "n", "negative_2": "p", "negative_3": "n", "negative_4": "m"}])
    assert from_pairs(data, "", 7)[0].negatives == ("n", "m")
    assert from_pairs(data, "", 1)[0].negatives == ("n",)
