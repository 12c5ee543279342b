"""Learning from a dictionary: entry vectors, rounds, what is frozen, the loss by hand, reverse look-up, WordNet's files."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertForMaskedLM, LlamaForCausalLM
from typer.testing import CliRunner

from datasets import Dataset
from regraft.cli import app
from regraft.datasets.models import encoder_folder
from regraft.errors import CheckpointError, CorpusError, ParameterError
from regraft.method import resolve
from regraft.text.examples import read_examples
from regraft.text.fitting import Budget
from regraft.text.lexical.dictionary import Dictionary, dictionary, hold_out
from regraft.text.lexical.isotropy import isoscore, rescaled, transformed, uniformity
from regraft.text.lexical.wordnet import find_wordnet, read_wordnet
from regraft.text.tasks.files import open_any
from regraft.text.tasks.reverse import ReverseDictionary, reverse_dictionary
from regraft.text.tuners.defsent import plus, single
from regraft.text.tuners.defsent.heads import Entries, Predict, dense_head, freeze, language_head, pooled_by, targets
from toys.models import WORDS, texts

PAIRS = list(zip([*WORDS[:12], "old map", "far land", "past hat"], texts(15, 3), strict=True))


def rows_of(pairs):
    return Dataset.from_list([{"entry": name, "definition": text} for name, text in pairs])


@pytest.fixture
def bert(bert_folder):
    return resolve("encoder", "mean").build(bert_folder)


def tuned(**settings):
    return resolve("tuner", "defsent-plus", settings)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b, *, but=()):
    return [name for name in a if not torch.equal(a[name], b[name]) and not name.endswith(but)] == []


def test_entries_with_one_definition_have_the_vectors_of_the_encoder_itself(bert):
    tuner = tuned()
    rows = tuner.read(rows_of(PAIRS), bert.tokenizer)
    table = tuner.table(bert, rows, 1)
    np.testing.assert_allclose(table, bert.encode([text for _, text in PAIRS]), atol=1e-6)
    one = tuned(entry_pooling="cls").table(bert, rows, 1)
    states = bert.encode([text for _, text in PAIRS], output_value="token_embeddings")
    np.testing.assert_allclose(one, np.stack([state[0].numpy() for state in states]), atol=1e-5)


@pytest.mark.parametrize("head", ["none", "identity"])
def test_before_training_every_definition_is_nearest_to_its_entry(bert, head):
    tuner = tuned()
    rows = tuner.read(rows_of(PAIRS), bert.tokenizer)
    learner = pooled_by(bert)
    if (layer := dense_head(learner, head)) is not None:
        learner.append(layer)
    scores = Entries(torch.from_numpy(tuner.table(bert, rows, 1)).float(), 0.05)(
        learner.encode([text for _, text in PAIRS], convert_to_tensor=True)
    )
    assert scores.argmax(1).tolist() == list(range(len(PAIRS)))


def test_the_mean_over_definitions_hangs_neither_on_their_order_nor_on_padding(bert):
    long = " ".join(texts(3, 9))
    many = [("a", "the cat sat"), ("a", long), ("b", "far land"), ("b", "old map of the land"), ("a", "that rat ran")]
    tuner = tuned()
    tables = []
    for pairs in (many, many[::-1]):
        rows = tuner.read(rows_of(pairs), bert.tokenizer)
        order = [names[0] for names in rows.names]
        tables.append(tuner.table(bert, rows, 1)[[order.index("a"), order.index("b")]])
    np.testing.assert_allclose(*tables, atol=1e-6)
    alone = [np.mean([bert.encode(text) for name, text in many if name == entry], axis=0) for entry in "ab"]
    np.testing.assert_allclose(tables[0], alone, atol=1e-5)


def test_rounds_start_from_the_original_and_only_the_entries_are_frozen(bert, monkeypatch):
    starts, losses, tables = [], [], []
    real = plus.fit

    def watched(model, loss, *args, **kwargs):
        starts.append(weights(model))
        losses.append(loss)
        before = loss.scores.table.clone()
        found = real(model, loss, *args, **kwargs)
        tables.append((before, loss.scores.table))
        return found

    monkeypatch.setattr(plus, "fit", watched)
    original = weights(bert)
    budget = Budget(steps=8, batch_size=8, lr=1e-2)
    tuned(rounds=2).train(bert, rows_of(PAIRS), budget)
    assert same(starts[0], starts[1])
    assert same(original, {name: starts[1][name] for name in original})
    assert all(torch.equal(before, after) and after.grad is None for before, after in tables)
    assert "scores.table" not in dict(losses[0].named_parameters())
    assert not torch.equal(tables[0][0], tables[1][0])  # the second round's entries come from the first round's encoder
    end = weights(losses[1].model)
    changed = {name for name in end if not torch.equal(end[name], starts[1][name])}
    assert {"0.model.embeddings.word_embeddings.weight", "2.linear.weight"} <= changed
    assert [at for at, _ in budget.curve] == sorted(at for at, _ in budget.curve)
    assert max(at for at, _ in budget.curve) == 8


def test_the_encoder_that_makes_the_entries_is_left_as_it_is_and_one_round_is_regression_onto_its_space(bert, bert_folder, tmp_path):
    other = resolve("encoder", "mean").build(bert_folder)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.05)
    other.save_pretrained(str(tmp_path / "other"), create_model_card=False)
    budget = Budget(steps=4, batch_size=8, lr=1e-3)
    tuner = tuned(rounds=1, builder=str(tmp_path / "other"))
    tuner.train(bert, rows_of(PAIRS), budget)
    plainly, rows = resolve("encoder", "mean").build(bert_folder), tuner.read(rows_of(PAIRS), bert.tokenizer)
    kept = weights(other)
    fixed = tuner.table(other, rows, 1)
    tuner.learn(plainly, rows, fixed, Budget(steps=4, batch_size=8, lr=1e-3, warmup=0.0), name="fixed")
    assert same(kept, weights(other))
    for name, weight in bert.state_dict().items():
        if "pooler" not in name:  # random, for the checkpoint has none
            torch.testing.assert_close(weight, plainly.state_dict()[name])


def test_continue_goes_on_with_the_model_of_the_round_before(bert, monkeypatch):
    seen = []
    monkeypatch.setattr(plus.DefSentPlus, "learn", lambda self, model, *args, **kwargs: seen.append(weights(model)) or _shift(model))
    tuned(rounds=2, restart="continue").train(bert, rows_of(PAIRS), Budget(steps=2))
    assert not same(seen[0], seen[1])


def _shift(model):
    with torch.no_grad():
        next(model.parameters()).add_(1.0)


def test_a_round_that_is_no_better_on_dev_is_undone(bert, tmp_path, monkeypatch):
    rows = [{"sentence1": a, "sentence2": b, "score": n % 5} for n, (a, b) in enumerate(zip(texts(20, 1), texts(20, 2), strict=True))]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = iter([0.5, 0.6, 0.55])
    real = plus.open_any(str(tmp_path / "dev.jsonl"))
    monkeypatch.setattr(type(real), "measure", lambda self, encode: type("Value", (), {"value": next(values)}))
    ends = []
    learn = plus.DefSentPlus.learn
    monkeypatch.setattr(plus.DefSentPlus, "learn", lambda self, model, *a, **k: (learn(self, model, *a, **k), ends.append(weights(model))))
    tuned(rounds=3, dev=str(tmp_path / "dev.jsonl")).train(bert, rows_of(PAIRS), Budget(steps=3, batch_size=4, lr=1e-3))
    assert len(ends) == 2
    assert same(ends[0], weights(bert))


def test_only_the_last_layers_are_trained_when_asked(bert):
    before = weights(bert)
    tuned(rounds=1, layers=2).train(bert, rows_of(PAIRS), Budget(steps=2, batch_size=8, lr=1e-2))
    changed = {name.split(".")[4] for name, weight in bert.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {"3", "4"}
    assert all(weight.requires_grad for weight in bert.parameters())
    with pytest.raises(ParameterError, match="layers=9: the model has 5"):
        freeze(bert, 9)


@pytest.mark.parametrize(("folder", "frozen"), [("bert_folder", "embeddings."), ("llama_folder", "embed_tokens")])
def test_defsent_leaves_embeddings_and_head_as_they_are(folder, frozen, request, monkeypatch):
    model = resolve("encoder", "mean").build(request.getfixturevalue(folder))
    heads = []
    real = single.language_head
    monkeypatch.setattr(single, "language_head", lambda model: heads.append(real(model)) or heads[0])
    u = torch.randn(3, 16)
    first = real(model)(u)
    before = weights(model)
    resolve("tuner", "defsent").train(model, rows_of(PAIRS), Budget(steps=4, batch_size=8, lr=1e-2))
    after = weights(model)
    torch.testing.assert_close(heads[0](u), first, rtol=0, atol=0)
    assert all(torch.equal(before[name], after[name]) for name in before if frozen in name or name.endswith("model.norm.weight"))
    assert any(not torch.equal(before[name], after[name]) for name in before if ".layer" in name)


def test_the_head_of_a_language_model_is_the_whole_head(bert, bert_folder, llama_folder):
    u = torch.randn(4, 16)
    with torch.no_grad():
        torch.testing.assert_close(language_head(bert)(u), BertForMaskedLM.from_pretrained(bert_folder).cls(u))
        decoder = resolve("encoder", "mean").build(llama_folder)
        torch.testing.assert_close(language_head(decoder)(u), LlamaForCausalLM.from_pretrained(llama_folder).lm_head(u))


def test_the_dense_head_starts_as_the_checkpoint_says(bert, bert_folder, llama_folder):
    head = dense_head(bert, "auto")  # this checkpoint has no pooler
    dense = BertForMaskedLM.from_pretrained(bert_folder).cls.predictions.transform.dense
    torch.testing.assert_close(head.linear.weight, dense.weight)
    torch.testing.assert_close(head.linear.bias, dense.bias)
    assert isinstance(head.activation_function, torch.nn.GELU)
    with pytest.raises(ParameterError, match=r"head=pooler: .* has no pooler of 16 x 16: take head=identity"):
        dense_head(bert, "pooler")
    decoder = resolve("encoder", "mean").build(llama_folder)
    torch.testing.assert_close(dense_head(decoder, "auto").linear.weight.detach(), torch.eye(16))


def test_the_loss_is_a_log_softmax_by_hand():
    table, v = torch.randn(5, 3), torch.randn(2, 3)
    loss = Predict(lambda features: {"sentence_embedding": features}, Entries(table))
    labels = torch.tensor([[2, -1], [4, 0]])
    scores = [[sum(float(v[n, i] * table[k, i]) for i in range(3)) for k in range(5)] for n in range(2)]
    logs = [[s - math.log(sum(math.exp(t) for t in row)) for s in row] for row in scores]
    assert float(loss([v], labels)) == pytest.approx(-(logs[0][2] + (logs[1][4] + logs[1][0]) / 2) / 2, abs=1e-5)


def test_targets_of_synonyms_sum_to_one():
    found = targets(torch.tensor([[0, 3, -1], [2, -1, -1], [1, 2, 3]]), 4)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    torch.testing.assert_close(found[0], torch.tensor([0.5, 0, 0, 0.5]))


def test_whitened_vectors_have_mean_zero_and_covariance_one():
    rows = np.random.default_rng(0).normal(size=(300, 8)) @ np.random.default_rng(1).normal(size=(8, 8)) + 5
    found = transformed(rows, "whiten")
    np.testing.assert_allclose(np.cov(found.T), np.eye(8), atol=1e-4)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(transformed(rows, "standardize").std(0), 1)
    np.testing.assert_allclose(transformed(rows, "center"), rows - rows.mean(0))
    assert uniformity(rows)["cosine"] > 0.5
    assert abs(uniformity(found)["cosine"]) < 0.05
    assert isoscore(found) == pytest.approx(1, abs=1e-6)
    assert isoscore(np.outer(np.arange(9.0), np.ones(4))) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ParameterError, match="isotropy=whiten: 8 entries for 8 dimensions"):
        transformed(rows[:8], "whiten")


def test_independent_components_are_uncorrelated_and_of_the_length_asked_for():
    from sklearn.decomposition import FastICA
    from sklearn.preprocessing import StandardScaler

    rows = np.random.default_rng(0).laplace(size=(400, 5)) @ np.random.default_rng(1).normal(size=(5, 5)) + 3
    found = rescaled(transformed(rows, "ica"), 7.0)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    covariance = np.cov(found.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-6 * covariance.max())
    assert np.linalg.norm(found, axis=1).mean() == pytest.approx(7)
    old = FastICA(fun="logcosh", max_iter=1000, whiten="arbitrary-variance", random_state=42)  # scikit-learn before 1.1
    np.testing.assert_allclose(rescaled(old.fit_transform(StandardScaler().fit_transform(rows)), 7.0), found, rtol=1e-6)


def test_isotropy_is_done_from_its_round_on_and_keeps_the_mean_length(bert):
    many = list(zip([f"entry {n}" for n in range(40)], texts(40, 5), strict=True))
    tuner = tuned(isotropy="whiten", isotropy_from=2)
    rows = tuner.read(rows_of(many), bert.tokenizer)
    first, second = (tuner.table(bert, rows, number) for number in (1, 2))
    np.testing.assert_allclose(first, bert.encode([text for _, text in many]), atol=1e-6)
    assert np.linalg.norm(second, axis=1).mean() == pytest.approx(np.linalg.norm(first, axis=1).mean())
    assert abs(second.mean()) < 1e-6


def test_rows_that_could_not_be_told_apart_are_one_and_shared_definitions_have_several_labels():
    vehicle, wagon = "a motor vehicle", "a part of a train"
    pairs = [("car", vehicle), ("auto", vehicle), ("car", wagon), ("coach", wagon), ("carriage", wagon)]
    found = dictionary(pairs)
    assert found.names == (("car",), ("auto",), ("coach", "carriage"))
    assert found.rows_of == {"a motor vehicle": (0, 1), "a part of a train": (0, 2)}
    assert plus.samples(found)[:]["label"] == [[0, 1], [0, 2]]
    first = dictionary(pairs, first_only=True)
    assert first.names == (("car",),)
    masked = plus.samples(Dictionary((("old map",), ("hat",)), (("an Old Map, old", "x y"), ("x y",))), mask="[MASK]")
    assert masked[:]["text"] == ["an [MASK], old", "x y"]


def test_what_is_asked_for_is_never_trained_on():
    pairs = [(f"w{n}", f"definition {n} {m}") for n in range(60) for m in range(3)]
    pairs += [(f"v{n}", f"definition {n} 0") for n in range(60)]
    train, index, asked = hold_out(pairs, 0.3)
    names, definitions = {name for name, _ in train}, {text for _, text in train}
    assert 5 < len(asked) < 40
    for name, text in asked:
        assert name not in names
        assert not definitions & {other for owner, other in pairs if owner == name}
        assert (name, text) not in index
        assert any(owner == name for owner, _ in index)


def test_reverse_look_up_ranks_by_cosine():
    at = {"north": [0, 1], "east": [1, 0], "north-east": [1, 1], "up": [0.1, 1], "right": [1, 0.4]}
    index = Dictionary((("n",), ("e",), ("ne",)), (("north",), ("east",), ("north-east",)))
    task = ReverseDictionary("toy", "MRR", "", index, (("up", 0), ("right", 2)))

    def encode(texts, role):
        return np.array([at[text] for text in texts], dtype=np.float32)

    assert task.ranks(encode).tolist() == [1, 2]
    assert task.measure(encode).value == pytest.approx(0.75)
    assert task.figures(encode) == pytest.approx({"mrr": 0.75, "mrr@10": 0.75, "top-1": 0.5, "top-3": 1, "top-10": 1})
    with pytest.raises(CorpusError, match="nothing to look up"):
        reverse_dictionary("d", [("a", "b c"), ("d", "e f")], "")


@pytest.mark.parametrize(
    ("method", "folder"), [("defsent-plus", "bert_folder"), ("defsent-plus", "llama_folder"), ("defsent", "bert_folder")]
)
def test_the_command_writes_a_stock_model_without_the_head(method, folder, request, tmp_path):
    with (tmp_path / "dictionary.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("entry", "definition"), *PAIRS, *zip(WORDS[:8], texts(8, 77), strict=True)])
    rows = [{"entry": name, "definition": text} for n, name in enumerate(WORDS) for text in texts(2, 100 + n)]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    call = ["text", "train", str(request.getfixturevalue(folder)), "--pooling", "mean", "--method", method, "--out", str(out)]
    more = [
        "--examples",
        str(tmp_path / "dictionary.csv"),
        "--steps",
        "6",
        "--lr",
        "1e-3",
        "--tasks",
        str(tmp_path / "task.jsonl"),
        "--json",
    ]
    done = CliRunner().invoke(app, [*call, *more])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kind"] == "entries"
    assert figures["tasks"][0]["metric"] == "MRR"
    assert figures["open"].startswith("SentenceTransformer(")
    model = SentenceTransformer(str(out), device="cpu")
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling"]
    assert np.isfinite(model.encode(["the cat sat"])).all()


def test_the_trained_encoder_is_what_was_trained_without_its_head(bert, tmp_path, monkeypatch):
    kept = []
    real = plus.fit
    monkeypatch.setattr(plus, "fit", lambda model, *args, **kwargs: kept.append(model) or real(model, *args, **kwargs))
    tuned(rounds=1).train(bert, rows_of(PAIRS), Budget(steps=3, batch_size=8, lr=1e-2))
    features = kept[0].preprocess(["the cat sat"])
    with torch.no_grad():
        for module in list(kept[0])[:2]:
            features = module(features)
    np.testing.assert_allclose(bert.encode(["the cat sat"]), features["sentence_embedding"].numpy(), atol=1e-6)
    bert.save_pretrained(str(tmp_path / "out"), create_model_card=False)
    loaded = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(loaded.encode(["the cat sat"]), bert.encode(["the cat sat"]), atol=1e-6)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([("cat", "the cat sat")], "1 entries, 1 definitions of two tokens or more: 1 row"),
        ([("cat", "the cat sat"), ("rat", "the cat sat")], "2 entries, 1 definitions"),
        ([("cat", "the"), ("rat", "that rat ran")], "2 entries, 1 definitions"),
    ],
)
def test_a_dictionary_that_teaches_nothing_is_one_line(bert, pairs, said):
    with pytest.raises(CorpusError, match=said):
        tuned().train(bert, rows_of(pairs), Budget(steps=3))


def test_refusals(bert, tmp_path, bert_folder):
    (tmp_path / "e.jsonl").write_text('{"entry": "a", "definition": "b c"}\n{"entry": "d", "definition": " "}\n')
    with pytest.raises(CorpusError, match="example 2: definition is empty"):
        read_examples([str(tmp_path / "e.jsonl")], ("entries",))
    (tmp_path / "e.csv").write_text("entry,definition\na\n")
    with pytest.raises(CorpusError, match="line 2: not as many cells"):
        read_examples([str(tmp_path / "e.csv")], ("entries",))
    (tmp_path / "e.csv").write_text("entry\na\n")
    with pytest.raises(CorpusError, match="this method learns from entry, definition"):
        read_examples([str(tmp_path / "e.csv")], ("entries",))
    with pytest.raises(CorpusError, match=r"0 of 2 entries is one token .* take method defsent-plus"):
        resolve("tuner", "defsent").train(bert, rows_of([("old map", "a b"), ("far land", "c d")]), Budget(steps=1))
    with pytest.raises(ParameterError, match="2 steps for 3 rounds"):
        tuned().train(bert, rows_of(PAIRS), Budget(steps=2))
    bert[0].model.save_pretrained(tmp_path / "body")  # no head
    bert.tokenizer.save_pretrained(tmp_path / "body")
    headless = resolve("encoder", "mean").build(tmp_path / "body")
    with pytest.raises(CheckpointError, match="it has no language-model head"):
        language_head(headless)


def test_wordnet_files_are_read(tmp_path):
    (tmp_path / "data.noun").write_text(
        "  1 licence\n"
        '00000001 03 n 02 Old_Map 0 chart 1 000 | a drawing of land; seen from above; "an old map of the land"  \n'
    )  # fmt: skip
    (tmp_path / "data.adj").write_text("00000002 00 a 01 far(p) 0 000 | not near  \n")
    for part in ("verb", "adv"):
        (tmp_path / f"data.{part}").write_text("")
    drawn = "a drawing of land; seen from above"
    assert read_wordnet(find_wordnet(str(tmp_path))) == [("old map", drawn), ("chart", drawn), ("far", "not near")]
    data, kind = read_examples([f"wordnet:{tmp_path}"], ("entries",))
    assert (kind, len(data)) == ("entries", 3)
    (tmp_path / "data.adv").write_text("broken\n")
    with pytest.raises(CorpusError, match=r"data.adv, line 1: no synset of WordNet: broken"):
        read_wordnet(tmp_path)
    with pytest.raises(ParameterError, match="no WordNet"):
        find_wordnet(str(tmp_path / "nothing"))


def test_wordnet_as_it_is_published():
    try:
        folder = find_wordnet()
    except ParameterError:
        pytest.skip("WordNet's files are not here")
    pairs = read_wordnet(folder)
    names = sorted({name for name, _ in pairs})
    ids = AutoTokenizer.from_pretrained(encoder_folder())(names, add_special_tokens=False)["input_ids"]
    single = sum(len(one) == 1 for one in ids)  # of the vocabulary of BERT
    assert (len(names), len(pairs)) in {(147_478, 207_210), (147_306, 206_906)}  # WordNet 3.1 and 3.0
    assert 14_300 < single < 14_700


def test_a_dictionary_file_is_a_task(tmp_path, bert):
    rows = [{"entry": name, "definition": text} for n, name in enumerate(WORDS) for text in texts(2, 100 + n)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = open_any(str(tmp_path / "d.jsonl"))
    assert isinstance(task, ReverseDictionary)
    from regraft.text.tasks.task import encoder

    assert 0 < task.measure(encoder(bert)).value <= 1
