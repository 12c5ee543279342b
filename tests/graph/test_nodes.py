"""Vectors of nodes: walks and their shapes in closed form, baselines, IRWE on small graphs, files, the verbs and their bad input."""

import json
from itertools import pairwise

import networkx
import numpy as np
import pytest
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import InputError, ParameterError
from regraft.graph.edges import open_graph
from regraft.graph.nodes.embedders.netmf import mutual
from regraft.graph.nodes.features import Walked, projection
from regraft.graph.nodes.job import apply, load, train
from regraft.graph.nodes.judge import judge
from regraft.graph.walks import _walk, anonymous, codes, visits, walk
from regraft.method import resolve

TINY = {"length": 4, "walks": 60, "read": 3, "dim": 16, "bins": 4, "heads": 2, "layers": 1, "rounds": 12, "batch": 16}


@pytest.fixture(scope="module")
def karate():
    return open_graph(networkx.karate_club_graph())


class TestWalks:
    def test_steps_are_edges_and_the_seed_decides(self, karate):
        starts = np.repeat(np.arange(karate.size), 5)
        found = walk(karate, starts, 6, seed=3)
        dense = karate.adjacency.toarray() > 0
        assert all(dense[a, b] for row in found for a, b in pairwise(row))
        assert np.array_equal(found, walk(karate, starts, 6, seed=3))
        assert not np.array_equal(found, walk(karate, starts, 6, seed=4))

    @pytest.mark.parametrize("count", [1, 63, 64, 131])
    def test_walks_that_step_in_turn_are_the_same(self, count):
        graph = networkx.gnp_random_graph(40, 0.08, seed=1)  # some nodes are alone
        matrix, starts = open_graph(graph).adjacency, np.arange(count) % 40
        given = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), np.zeros(1), False, starts.astype(np.int32))
        assert np.array_equal(walk(open_graph(graph), starts, 9, seed=5), _walk(*given, 9, np.uint64(5), 1.0, 1.0))

    def test_visits_are_those_of_the_transition_matrix(self):
        graph = open_graph(networkx.path_graph(5))
        each, length = 20_000, 3
        seen = visits(walk(graph, np.repeat(np.arange(5), each), length, seed=0), each, 5).toarray() / each
        step = graph.adjacency.toarray() / graph.degrees[:, None]
        expected = sum(np.linalg.matrix_power(step, r) for r in range(length + 1))
        assert np.abs(seen - expected).max() < 0.03  # three deviations of the mean of 20,000 are below 0.011 a step

    def test_edges_are_taken_as_often_as_they_weigh(self, tmp_path):
        (tmp_path / "edges.txt").write_text("a b 3\na c 1\n")
        graph = open_graph(tmp_path / "edges.txt")
        found = walk(graph, np.zeros(8000, dtype=np.int64), 1, seed=0)[:, 1]
        assert (found == graph.names.index("b")).mean() == pytest.approx(0.75, abs=0.02)

    def test_going_back_is_as_likely_as_p_says(self):
        graph = open_graph(networkx.star_graph(2))  # from a leaf to the middle, then to either leaf
        found = walk(graph, np.full(8000, 1), 2, seed=0, p=4.0, q=1.0)
        assert (found[:, 2] == 1).mean() == pytest.approx(0.2, abs=0.02)
        with pytest.raises(InputError, match="above 0"):
            walk(graph, np.zeros(1, dtype=np.int64), 1, p=0)

    def test_a_lonely_node_repeats_itself(self):
        lonely = networkx.empty_graph(2)
        assert walk(open_graph(lonely), np.array([1]), 3).tolist() == [[1, 1, 1, 1]]


class TestShapes:
    def test_names_go(self):
        assert anonymous(np.array([[7, 3, 9, 7, 1]], dtype=np.int32)).tolist() == [[0, 1, 2, 0, 3]]

    @pytest.mark.parametrize(("length", "bell"), [(3, 5), (4, 15), (5, 52)])
    def test_there_are_as_many_as_bell_says(self, length, bell):
        graph = open_graph(networkx.complete_graph(8))
        found = anonymous(walk(graph, np.zeros(60_000, dtype=np.int64), length, seed=0))
        assert len(np.unique(codes(found))) == bell

    def test_shares_sum_to_one_and_unseen_shapes_are_dropped(self, karate):
        walked = Walked.of(karate, 4, 50, seed=0)
        shapes = walked.shapes(4)
        assert np.allclose(walked.counts(shapes).sum(1), 1)
        assert np.allclose(walked.degrees(shapes).sum(1), 5)  # one for each step
        path = Walked.of(open_graph(networkx.path_graph(6)), 4, 50, seed=0)
        assert (path.counts(path.shapes(2)).sum(1) == 1).all()
        assert karate.size == len(walked.counts(path.shapes(2)))
        assert walked.counts(path.shapes(2)).sum(1).min() < 1  # triangles have shapes that a path has not

    def test_a_projection_keeps_lengths_and_names_keep_their_rows(self):
        rows = projection(tuple(map(str, range(400))), 256, 0)
        assert np.linalg.norm(rows, axis=1).mean() == pytest.approx(1, abs=0.02)
        assert np.array_equal(projection(("7",), 256, 0)[0], rows[7])


class TestBaselines:
    def test_the_matrix_of_netmf_is_the_dense_formula(self, karate):
        dense = karate.adjacency.toarray().astype(float)
        degree = dense.sum(1)
        step = dense / degree[:, None]
        powers = sum(np.linalg.matrix_power(step, r) for r in range(1, 4))
        assert np.allclose(mutual(karate, 3), dense.sum() / 3 * powers / degree[None, :])

    @pytest.mark.parametrize("name", ["netmf", "node2vec"])
    def test_places_tell_two_cliques_apart(self, name):
        graph = open_graph(networkx.barbell_graph(10, 0))
        vectors = resolve("node-embedder", name, {"dim": 4}).fit(graph).transform(graph)["position"]
        centred = vectors - vectors.mean(0)
        first = centred @ np.linalg.svd(centred)[2][0]
        assert abs(np.sign(first[:10]).sum() - np.sign(first[10:]).sum()) == 20

    def test_they_know_one_graph_alone(self, karate):
        fitted = resolve("node-embedder", "netmf", {"dim": 4}).fit(karate)
        with pytest.raises(InputError, match="only the graph that it was learned on"):
            fitted.transform(open_graph(networkx.path_graph(50)))


class TestIrwe:
    @pytest.fixture(scope="class")
    def barbell(self):
        graph = open_graph(networkx.barbell_graph(10, 3))
        return graph, resolve("node-embedder", "irwe", TINY | {"walks": 400, "position_steps": 3}).fit(graph, 0).transform(graph)

    def test_mirrored_nodes_have_one_role(self, barbell):
        _, kinds = barbell
        roles = kinds["identity"] - kinds["identity"].mean(0)
        left, right = roles[:10], roles[22:12:-1]
        cosine = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
        assert cosine.min() > 0.9

    def test_both_bells_have_places_of_their_own(self, barbell):
        _, kinds = barbell
        centred = kinds["position"] - kinds["position"].mean(0)
        first = centred @ np.linalg.svd(centred)[2][0]
        assert np.sign(first[:10]).mean() * np.sign(first[13:]).mean() < -0.8

    def test_the_same_seed_gives_the_same_vectors_and_files_keep_them(self, karate, tmp_path):
        (tmp_path / "edges.txt").write_text("\n".join(f"{a} {b}" for a, b in networkx.karate_club_graph().edges))
        settings = TINY | {"rounds": 2}
        done = train(tmp_path / "edges.txt", tmp_path / "a", settings=settings)
        again = train(tmp_path / "edges.txt", tmp_path / "b", settings=settings)
        assert np.array_equal(done.kinds["position"], again.kinds["position"])
        applied = apply(tmp_path / "edges.txt", tmp_path / "a", tmp_path / "c")
        assert np.array_equal(applied.kinds["identity"], done.kinds["identity"])
        assert np.array_equal(np.load(tmp_path / "a" / "position.npy"), done.kinds["position"])

    def test_another_graph_needs_no_training(self, karate):
        fitted = resolve("node-embedder", "irwe", TINY | {"rounds": 2}).fit(karate)
        other = fitted.transform(open_graph(networkx.les_miserables_graph()))
        assert other["identity"].shape == other["position"].shape == (77, 16)
        assert np.isfinite(other["position"]).all()

    def test_the_loss_of_places_teaches_identities_only_if_it_may(self, karate):
        import torch

        from regraft.graph.nodes.embedders.irwe import Lessons, Seen

        for joint in (True, False):
            method = resolve("node-embedder", "irwe", TINY | {"joint": joint})
            shapes = Walked.of(karate, 4, 60, 1).shapes(4)
            networks = method.networks(shapes)
            Lessons(method, karate, Seen.of(karate, method, shapes, 1), networks, 0).position_loss().backward()
            reached = [one.grad is not None and bool(torch.any(one.grad != 0)) for one in networks["identity"].query.parameters()]
            assert all(reached) is joint
            assert any(reached) is joint

    @pytest.mark.parametrize(
        ("settings", "said"), [({"dim": 10, "heads": 4}, "not divided"), ({"read": 9, "walks": 3}, "no more than there are")]
    )
    def test_settings_that_do_not_fit(self, karate, settings, said):
        with pytest.raises(ParameterError, match=said):
            resolve("node-embedder", "irwe", settings).fit(karate)


def test_judging_by_labels_that_vectors_give_away_and_by_noise():
    labels = np.repeat([0, 1], 50)
    assert judge(np.eye(2, dtype=np.float32)[labels] * 5, labels).value == 1
    noise = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    assert judge(noise, labels).value < 0.65
    with pytest.raises(InputError, match="too few"):
        judge(noise[:5], labels[:5])


class TestVerbs:
    def test_train_and_apply(self, tmp_path):
        graph = networkx.karate_club_graph()
        (tmp_path / "edges.txt").write_text("\n".join(f"{a} {b}" for a, b in graph.edges))
        rows = "".join(f"{node},{club}\n" for node, club in graph.nodes(data="club"))
        (tmp_path / "y.csv").write_text(f"node,club\n{rows}")
        asked = [
            "graph",
            "nodes",
            "train",
            str(tmp_path / "edges.txt"),
            "--method",
            "netmf",
            "--set",
            "dim=4",
            "--labels",
            str(tmp_path / "y.csv"),
        ]
        done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "out"), "--json"])
        assert done.exit_code == 0, done.output
        assert {row["vectors"] for row in json.loads(done.stdout)["rows"]} == {"position", "log-degree alone"}
        page = (tmp_path / "out" / "report.html").read_text()
        assert "Places: near nodes" in page
        assert "What vectors tell of labels" in page
        assert "held-out" not in page
        more = CliRunner().invoke(
            app, ["graph", "nodes", "apply", str(tmp_path / "edges.txt"), "--model", str(tmp_path / "out"), "--out", str(tmp_path / "more")]
        )
        assert more.exit_code == 0, more.output

    def test_a_folder_of_something_else(self, tmp_path):
        with pytest.raises(InputError, match="graph nodes train"):
            load(tmp_path)
        (tmp_path / "embedder.json").write_text('{"method": "irwe", "settings": {}, "facts": {}, "seed": 0}')
        (tmp_path / "embedder.safetensors").write_bytes(b"no tensors")
        with pytest.raises(InputError, match="do not fit each other"):
            load(tmp_path)
