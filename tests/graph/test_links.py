"""Held-out edges: what is put aside, areas under curves in closed form, what vectors and neighbours tell, and the verb."""

import json

import networkx
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import InputError, ParameterError
from regraft.graph.edges import open_graph
from regraft.graph.nodes.links import Scores, put_aside, rows_of, scored, shared
from regraft.graph.nodes.report import quarters, roc

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def groups():
    """Two groups of 30; most edges are within one."""
    return open_graph(networkx.planted_partition_graph(2, 30, 0.5, 0.02, seed=0))


class TestPutAside:
    def test_edges_and_pairs_without_one(self, groups):
        held = put_aside(groups, 0.2, seed=1)
        dense, left = groups.adjacency.toarray() > 0, held.graph.adjacency.toarray() > 0
        assert len(held.pairs) == len(held.others) == round(0.2 * dense.sum() / 2)
        assert dense[tuple(held.pairs.T)].all()
        assert not left[tuple(held.pairs.T)].any()
        assert left.sum() + 2 * len(held.pairs) == dense.sum()
        nothing = np.concatenate([held.others, held.drawn])
        assert not dense[tuple(nothing.T)].any()
        assert len(np.unique(nothing, axis=0)) == len(nothing)
        assert (nothing[:, 0] < nothing[:, 1]).all()
        assert left[tuple(held.known.T)].all()

    def test_what_was_connected_is_still_and_the_seed_decides(self, groups):
        held = [put_aside(groups, 0.7, seed=seed) for seed in (1, 1, 2)]
        assert connected_components(held[0].graph.adjacency)[0] == connected_components(groups.adjacency)[0]
        assert np.array_equal(held[0].pairs, held[1].pairs)
        assert not np.array_equal(held[0].pairs, held[2].pairs)

    def test_weights_stay(self, tmp_path):
        path = tmp_path / "edges.txt"
        path.write_text("".join(f"{a} {(a + far) % 30} {a + far}\n" for a in range(30) for far in (1, 2)))
        graph = open_graph(path)
        left = put_aside(graph, 0.3).graph.adjacency.tocoo()
        assert (left.data == graph.adjacency.toarray()[left.row, left.col]).all()

    @pytest.mark.parametrize(("share", "said"), [(0, "no share"), (1.0, "no share"), (float("nan"), "no share")])
    def test_shares_that_are_none(self, groups, share, said):
        with pytest.raises(ParameterError, match=said):
            put_aside(groups, share)

    def test_graphs_that_have_no_edge_to_spare(self):
        with pytest.raises(InputError, match="0 can go without"):
            put_aside(open_graph(networkx.path_graph(20)), 0.3)
        with pytest.raises(InputError, match="too many to hold some out"):
            put_aside(open_graph(networkx.complete_graph(20)), 0.3)


class TestScores:
    def test_the_area_is_scikit_learns_ties_and_all(self):
        edges, others = RNG.integers(2, 9, 200).astype(float), RNG.integers(0, 7, 300).astype(float)
        value, low, high = Scores(edges, others).auc
        assert value == pytest.approx(roc_auc_score(np.repeat([1, 0], [200, 300]), np.concatenate([edges, others])))
        drawn = [Scores(RNG.choice(edges, 200), RNG.choice(others, 300)).auc[0] for _ in range(400)]
        assert (high - low) / (2 * 1.96) == pytest.approx(np.std(drawn), rel=0.15)

    def test_its_curve_has_that_area(self):
        scores = Scores(RNG.normal(1, 1, 3000), RNG.normal(0, 1, 3000))
        line = roc({"one": scores}).data[0]
        area = sum((b - a) * (u + v) / 2 for a, b, u, v in zip(line.x, line.x[1:], line.y, line.y[1:], strict=False))
        assert area == pytest.approx(scores.auc[0], abs=0.005)

    def test_neighbours_in_common(self):
        graph = networkx.karate_club_graph()
        pairs = np.array([(0, 33), (2, 8), (4, 25), (0, 1)])
        expected = [found for _, _, found in networkx.adamic_adar_index(graph, pairs.tolist())]
        assert np.allclose(shared(open_graph(graph), pairs), expected)

    def test_vectors_that_know_the_groups_tell_edges_and_noise_does_not(self, groups):
        held = put_aside(groups, 0.3)
        knows = np.eye(2, dtype=np.float32)[[int(name) // 30 for name in groups.names]]
        noise = RNG.standard_normal((groups.size, 2)).astype(np.float32)
        rows = {row["scored_by"]: row for row in rows_of(scored(held, {"identity": noise, "position": knows}))}
        assert set(rows) == {"identity", "position", "identity and position", "rare neighbours in common", "product of degrees"}
        assert rows["position"]["roc_auc"] > 0.7
        assert rows["identity"]["roc_auc"] < 0.6
        assert all(row["low"] <= row["roc_auc"] <= row["high"] for row in rows.values())


def test_degrees_in_quarters():
    names, group = quarters(np.array([1, 1, 1, 2, 5, 9, 9, 30]))
    assert names[0].startswith("degree 1")
    assert names[-1].endswith("30")
    assert (np.diff(group) >= 0).all()
    assert quarters(np.array([4, 4, 4]))[0] == ["degree 4"]


def test_the_verb(tmp_path):
    path, out = tmp_path / "edges.txt", tmp_path / "out"
    graph = networkx.planted_partition_graph(4, 30, 0.3, 0.01, seed=0)
    path.write_text("\n".join(f"{a} {b}" for a, b in graph.edges))
    asked = ["graph", "nodes", "train", str(path), "--method", "netmf", "--set", "dim=8", "--held-out", "0.2", "--out"]
    done = CliRunner().invoke(app, [*asked, str(out), "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["scored_by"]: row["roc_auc"] for row in json.loads(done.stdout)["links"]}
    assert rows["position"] > 0.75 > 0.65 > rows["product of degrees"]
    held = [tuple(map(int, line.split("\t"))) for line in (out / "held-out.txt").read_text().splitlines()]
    assert len(held) == round(0.2 * graph.number_of_edges())
    assert all(graph.has_edge(*pair) for pair in held)
    page = (out / "report.html").read_text()
    assert "Held-out edges" in page
    assert "t-SNE" in page
    assert len(page) < 2_000_000  # its pictures are drawn, not scripts
    assert CliRunner().invoke(app, [*asked[:-2], "2", "--out", str(tmp_path / "no")]).exit_code == 2
    assert not (tmp_path / "no").exists()
