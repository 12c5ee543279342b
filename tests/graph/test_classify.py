"""Classes of nodes: closed forms of CatGCN against the explicit ones, files, splits, the verb and its bad input."""

import json

import networkx
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import InputError, ParameterError
from regraft.graph.classify.classifier import Nodes
from regraft.graph.classify.classifiers.catgcn import CatGcnModel, Shape
from regraft.graph.classify.data import read_nodes, read_values, split
from regraft.graph.classify.job import Plan, classify
from regraft.graph.classify.values import Bags, pairs, probed
from regraft.graph.edges import open_graph
from regraft.graph.labels import macro_f1, read_labels
from regraft.method import resolve

SETS = [[0, 3, 1], [2], [], [4, 0, 1, 2]]
OFFSETS, VALUES = np.array([0, 3, 4, 4, 8]), np.array([0, 3, 1, 2, 4, 0, 1, 2])


def four(order=(0, 1, 2, 3)):
    """Four nodes on a path, their sets in `order`."""
    sets = [SETS[number] for number in order]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in sets])])
    values = np.array([value for one in sets for value in one], dtype=np.int64)
    return Nodes(open_graph(networkx.path_graph(4)), offsets, values, 5, np.array([0, 1, 0, 1]), ("x", "y"))


@pytest.fixture
def table():
    torch.manual_seed(0)
    return torch.randn(5, 3)


class TestClosedForms:
    def test_pairs_are_a_double_loop(self, table):
        found = pairs(Bags(OFFSETS, VALUES), table)
        for row, ids in zip(found, SETS, strict=True):
            looped = sum((table[a] * table[b] for i, a in enumerate(ids) for b in ids[i + 1 :]), torch.zeros(3))
            assert torch.allclose(row, looped, atol=1e-5)

    def test_norms_of_pairs(self, table):
        bags, raw = Bags(OFFSETS, VALUES), pairs(Bags(OFFSETS, VALUES), table)
        assert torch.allclose(pairs(bags, table, "S")[3], raw[3] / 4)
        assert torch.allclose(pairs(bags, table, "pairs")[3], raw[3] / 6)

    @pytest.mark.parametrize("probe", [0.0, 1.0, 39.0])
    def test_the_probed_convolution_is_the_explicit_matrix(self, table, probe):
        found = probed(Bags(OFFSETS, VALUES), table, probe)
        explicit = []
        for ids in SETS:
            size = len(ids)
            matrix = (torch.ones(size, size) + probe * torch.eye(size)) / (size + probe)
            explicit.append(matrix @ table[ids])
            if size > 1:
                values = torch.linalg.eigvalsh(matrix)
                assert torch.allclose(values, torch.tensor([probe / (size + probe)] * (size - 1) + [1.0]), atol=1e-5)
        assert torch.allclose(found, torch.cat(explicit), atol=1e-5)

    def test_a_great_probe_leaves_rows_alone_and_none_makes_them_equal(self, table):
        bags = Bags(OFFSETS, VALUES)
        assert torch.allclose(probed(bags, table, 1e8), table[bags.values], atol=1e-4)
        assert torch.allclose(probed(bags, table, 0.0)[:3], table[SETS[0]].mean(0).expand(3, 3), atol=1e-6)

    def test_hops_are_powers_of_the_dense_matrix(self):
        scores = {}
        for hops in (0, 2):
            torch.manual_seed(1)
            scores[hops] = CatGcnModel(four(), Shape(hops=hops, dropout=0.0))()
        looped = open_graph(networkx.path_graph(4)).adjacency.toarray() + np.eye(4)
        dense = np.diag(looped.sum(1) ** -0.5) @ looped @ np.diag(looped.sum(1) ** -0.5)
        assert np.allclose(scores[2].detach(), dense @ dense @ scores[0].detach().numpy(), atol=1e-5)

    def test_the_order_of_values_means_nothing(self):
        nodes = four()
        torch.manual_seed(1)
        model = CatGcnModel(nodes, Shape(dropout=0.0, alpha=0.5))
        turned = Nodes(nodes.graph, nodes.offsets, np.concatenate([VALUES[:3][::-1], VALUES[3:]]), 5, nodes.labels, nodes.classes)
        assert torch.allclose(model(), model.on(turned)(), atol=1e-6)

    @pytest.mark.parametrize(("alpha", "silent"), [(1.0, "local"), (0.0, "glob")])
    def test_a_share_of_nothing_leaves_a_part_alone(self, alpha, silent):
        model = CatGcnModel(four(), Shape(alpha=alpha, dropout=0.0))
        model().sum().backward()
        assert all(one.grad is None for one in getattr(model, silent).parameters())
        assert model.table.grad.abs().sum() > 0

    def test_gradients(self):
        model = CatGcnModel(four(), Shape(dim=3, dropout=0.0, local_layers=(4,))).double()
        model.edges, model.bags.counts = model.edges.to_dense().double(), model.bags.counts.double()
        assert torch.autograd.gradcheck(lambda table: torch.func.functional_call(model, {"table": table}, ()), (model.table,))


def files(folder, count=60):
    """Nodes of two kinds that are told apart by values; edges within a kind."""
    draw = np.random.default_rng(0)
    rows = [{"node": f"n{u}", "values": [int(v) + 6 * (u % 2) for v in draw.integers(0, 8, 4)]} for u in range(count)]
    (folder / "nodes.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "edges.txt").write_text("\n".join(f"n{u} n{u + 2}" for u in range(count - 2)), encoding="utf-8")
    (folder / "y.csv").write_text("node,class\n" + "".join(f"n{u},{'ab'[u % 2]}\n" for u in range(count)), encoding="utf-8")
    return folder / "nodes.jsonl", folder / "edges.txt", folder / "y.csv"


class TestFiles:
    def test_three_formats_are_one(self, tmp_path):
        (tmp_path / "a.json").write_text('{"n0": [1, 2, 2], "n1": []}')
        (tmp_path / "a.jsonl").write_text('{"node": "n0", "values": [1, 2]}\n{"node": "n1", "values": []}\n')
        (tmp_path / "a.csv").write_text("node,value\nn0,1\nn0,2\n")
        assert read_values(tmp_path / "a.json") == read_values(tmp_path / "a.jsonl") == {"n0": ["1", "2"], "n1": []}
        assert read_values(tmp_path / "a.csv") == {"n0": ["1", "2"]}

    def test_what_is_missing_is_said(self, tmp_path):
        values, edges, labels = files(tmp_path)
        edges.write_text(edges.read_text() + "\nlonely n0\n", encoding="utf-8")
        found = read_nodes(values, edges, labels)
        assert found.notes == ("1 of 61 nodes have no value", "1 of 61 nodes have no label")

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("nodes.jsonl", '{"node": 1}', "line 1: needs"),
            ("nodes.jsonl", '{"node": 1, "values": 2}', "no list of texts or numbers"),
            ("nodes.jsonl", '{"node": 1, "values": [2]}\n{"node": 1, "values": [2]}', "stands there twice"),
            ("nodes.jsonl", '{"node": 1, "values": []}', "no node has a value"),
            ("nodes.jsonl", "{", "line 1: no JSON"),
            ("y.csv", "node,class\nn0,a\nn999,b\n", "'n999' is no node of the graph"),
            ("y.csv", "node,class\nn0,a\nn0,b\n", "two labels"),
            ("y.csv", "node,class\nn0,a\n", "all labels are 'a'"),
            ("y.csv", "node,class\nn0\n", "line 2: 1 columns"),
            ("y.csv", "node\n", "needs a header"),
        ],
    )
    def test_bad_files_are_one_line(self, tmp_path, name, text, said):
        paths = files(tmp_path)
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            read_nodes(*paths)

    def test_a_column_of_labels_by_name(self, tmp_path):
        (tmp_path / "y.csv").write_text("id,kind,name\n1,x,one\n")
        assert read_labels(tmp_path / "y.csv", "kind") == {"1": "x"}
        with pytest.raises(InputError, match="no column 'sort': choose kind, name"):
            read_labels(tmp_path / "y.csv", "sort")

    def test_other_endings_are_refused(self, tmp_path):
        (tmp_path / "a.txt").write_text("x")
        with pytest.raises(InputError, match="values of nodes come as"):
            read_values(tmp_path / "a.txt")


def test_the_split_takes_every_labelled_node_once():
    labels = np.array([0, 1, -1, 0, 1, 0, 1, 0, 1, 0, 1])
    parts = split(labels, seed=0)
    assert sorted(np.concatenate(parts).tolist()) == np.flatnonzero(labels >= 0).tolist()
    with pytest.raises(InputError, match="too few"):
        split(np.array([0, 1]), seed=0)


def test_macro_f1_is_that_of_scikit_learn():
    from sklearn.metrics import f1_score

    truth, guess = np.random.default_rng(0).integers(0, 3, (2, 40))
    assert macro_f1(truth, guess, range(3)) == pytest.approx(f1_score(truth, guess, average="macro"))


def test_the_best_state_is_kept_and_the_same_seed_gives_the_same_scores():
    nodes = four()
    fit = resolve("node-classifier", "catgcn").fit
    first, again = (fit(nodes, np.array([0, 1]), np.array([3]), epochs=20, seed=2) for _ in range(2))
    assert np.array_equal(first.scores, again.scores)
    assert -first.scores[3, 1] == pytest.approx(min(loss for _, loss in first.curve), abs=1e-5)


class TestVerb:
    def test_every_method_and_its_predictions(self, tmp_path):
        values, edges, labels = files(tmp_path)
        asked = ["graph", "classify", "--nodes", str(values), "--edges", str(edges), "--labels", str(labels)]
        asked += ["--method", "all", "--seeds", "1", "--epochs", "30", "--out", str(tmp_path / "out"), "--json"]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        rows = json.loads(done.stdout)["rows"]
        assert rows[0]["method"] == "sgc"
        assert {row["method"] for row in rows} == {"sgc", "catgcn", "fm", "gcn"}
        assert all(row["accuracy"] > 0.6 for row in rows)
        lines = (tmp_path / "out" / "predictions-catgcn.csv").read_text().splitlines()
        assert lines[0] == "node,class,a,b"
        assert len(lines) == 61
        assert "Classes of nodes" in (tmp_path / "out" / "comparison.html").read_text()

    def test_bad_settings(self, tmp_path):
        found = read_nodes(*files(tmp_path))
        with pytest.raises(ParameterError, match="--set gcn: that method is not compared"):
            classify(found, methods=["fm"], settings={"gcn": {"dim": 2}}, plan=Plan(1, 1))
        with pytest.raises(ParameterError, match="nothing"):
            classify(found, methods=["nothing"], plan=Plan(1, 1))
