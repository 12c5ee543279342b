"""Graphs as they come, the degree baseline in closed form, and simple graph convolution on labels that edges give away."""

import networkx
import numpy as np
import pytest
import scipy.sparse as sp

from regraft.errors import InputError
from regraft.graph.classify.classifier import Nodes
from regraft.graph.classify.learning import class_weights, smoothing
from regraft.graph.edges import open_graph, read_edges
from regraft.method import resolve


def written(folder, text):
    (folder / "edges.txt").write_text(text, encoding="utf-8")
    return folder / "edges.txt"


class TestReading:
    @pytest.mark.parametrize("text", ["# made\na b\nb c\nb a\nc c\n", "a,b\nb,c\n", "a\tb\t1\nb\tc\t2\n"])
    def test_edges_come_once_without_loops(self, tmp_path, text):
        graph = read_edges(written(tmp_path, text))
        assert graph.names == ("a", "b", "c")
        assert graph.degrees.tolist() == [1, 2, 1]
        assert (graph.adjacency != graph.adjacency.T).nnz == 0

    def test_nodes_without_edges_are_kept_if_they_are_named(self, tmp_path):
        assert read_edges(written(tmp_path, "a b\n"), nodes=["z", "a"]).degrees.tolist() == [0, 1, 1]

    def test_the_greatest_weight_of_a_repeated_edge_stays(self, tmp_path):
        assert read_edges(written(tmp_path, "a b 2\nb a 3\n")).adjacency.data.tolist() == [3, 3]

    @pytest.mark.parametrize(("text", "said"), [("", "no edges"), ("a\nb\n", "two names"), ("a b x\n", "'x' is no number above 0")])
    def test_bad_files(self, tmp_path, text, said):
        with pytest.raises(InputError, match=said):
            read_edges(written(tmp_path, text))

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(InputError, match="no such file"):
            read_edges(tmp_path / "none")

    def test_the_graphs_of_other_libraries(self):
        known = networkx.karate_club_graph()
        ours = open_graph(known)
        assert ours.degrees.tolist() == [degree for _, degree in known.degree]
        assert open_graph(sp.csr_array(networkx.to_scipy_sparse_array(known))).degrees.tolist() == ours.degrees.tolist()
        with pytest.raises(InputError, match="is no graph"):
            open_graph(3)


def test_degrees_and_their_means_over_walks():
    graph = open_graph(networkx.star_graph(3))
    found = resolve("node-embedder", "log-degree", {"hops": 1}).fit(graph).transform(graph)["identity"]
    assert np.allclose(found, np.log([[4, 2], [2, 4], [2, 4], [2, 4]]))


def test_classes_that_edges_give_away(tmp_path):
    halves = networkx.disjoint_union(networkx.complete_graph(12), networkx.complete_graph(12))
    labels = np.repeat([0, 1], 12)
    nodes = Nodes(open_graph(halves), np.arange(25), np.arange(24), 24, labels, ("x", "y"))
    found = resolve("node-classifier", "sgc").fit(nodes, np.array([0, 1, 12, 13]), np.array([2, 14]), epochs=60)
    assert (found.scores.argmax(1) == labels).all()
    alone = resolve("node-classifier", "sgc", {"hops": 0}).fit(nodes, np.array([0, 1, 12, 13]), np.array([2, 14]), epochs=60)
    assert (alone.scores.argmax(1) == labels)[4:].mean() < 0.9  # their own values say nothing


def test_smoothing_is_the_dense_formula():
    graph = open_graph(networkx.path_graph(4))
    looped = graph.adjacency.toarray() + np.eye(4)
    scale = np.diag(looped.sum(1) ** -0.5)
    assert np.allclose(smoothing(graph).to_dense().numpy(), scale @ looped @ scale)


def test_weights_of_classes_average_to_one_over_nodes():
    import torch

    labels = torch.tensor([0, 0, 0, 1])
    weights = class_weights(labels, 3)
    assert weights[labels].mean() == pytest.approx(1)
    assert weights[2] == 0
