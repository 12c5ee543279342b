"""IRWE, tested again: do shapes of random walks tell the roles of nodes, also in a graph that was never seen?

Airports and flights of the USA and of Europe, four classes by traffic. Vectors are judged by logistic regression on 20 % of the nodes and
tested on 70 %, ten splits. The parts of the method that its paper leaves open are this library's choice. What is expected was declared
below before any full run, from the method's description and figures on the same data; sizes come from one look with another seed.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.datasets.registry import fetch
from regraft.evaluation.paired import Sample
from regraft.graph.edges import Graph, read_edges
from regraft.graph.nodes.embedder import Fitted
from regraft.graph.nodes.embedders.irwe import Irwe
from regraft.graph.nodes.judge import judge
from regraft.method import resolve
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger

PLACES = ("usa", "europe")
SHARE: dict[str, Any] = {"metric": "accuracy", "unit": "share"}
POSITIONS = Declared("identities are 5 points or more over positions by factors", "netmf", Expectation(0.05), **SHARE)
DEGREE = Declared("identities are at most a point behind the degree alone", "log-degree", Expectation(-0.01), **SHARE)
PROFILE = Declared("identities are at most a point behind degrees along walks", "log-degree, 5 hops", Expectation(-0.01), **SHARE)
OWN = Declared("identities are 5 points or more over the same model's positions", "positions", Expectation(0.05), **SHARE)
ELSEWHERE = Declared(
    "learned on the USA and applied to Europe, identities are at most 5 points behind those learned there", "learned there",
    Expectation(-0.05), **SHARE,
)  # fmt: skip


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 5 processor minutes in full, half of one with `quick`."""
    seeds, settings = (1, {"rounds": 2, "walks": 50}) if quick else (3, {})
    graphs = {place: read_edges(fetch("airports", f"{place}-airports.edgelist")) for place in PLACES}
    labels = {place: roles(place, graph) for place, graph in graphs.items()}
    ledger, arms = Ledger("airports"), {place: measured(graphs[place], labels[place], seeds, settings) for place in PLACES}
    for place, (found, _) in arms.items():
        ledger.data = f"airports of {place}: {graphs[place].size:,} nodes, four classes"
        detail = f"10 splits, {seeds} seeds"
        ledger.settle(POSITIONS, detail, found["netmf"], found["identities"])
        ledger.settle(DEGREE, detail, found["log-degree"], found["identities"])
        ledger.settle(PROFILE, detail, found["log-degree, 5 hops"], found["identities"])
        ledger.settle(OWN, detail, found["positions"], found["identities"])
    moved = [fitted.transform(graphs["europe"])["identity"] for fitted in arms["usa"][1]]
    there = stacked([judge(vectors, labels["europe"]) for vectors in moved])
    ledger.settle(ELSEWHERE, f"10 splits, {seeds} seeds", arms["europe"][0]["identities"], there)
    rows = [{"graph": place, "vectors": name, "accuracy": one.value} for place, (found, _) in arms.items() for name, one in found.items()]
    rows.append({"graph": "europe", "vectors": "identities learned on usa", "accuracy": there.value})
    return Findings(Irwe.paper, ledger.claims, {"accuracy": rows}, {"Accuracy on nodes held out": rows})


def measured(graph: Graph, labels: npt.NDArray[np.int64], seeds: int, settings: dict[str, Any]) -> tuple[dict[str, Sample], list[Fitted]]:
    """What each kind of vector tells of labels, and the networks of each seed."""
    fitted: list[Fitted] = []
    found: dict[str, list[Sample]] = {}
    for seed in range(1, seeds + 1):
        with step(f"{graph.size:,} nodes, seed {seed}"):
            fitted.append(resolve("node-embedder", "irwe", settings).fit(graph, seed))
        kinds = fitted[-1].transform(graph)
        vectors = {"identities": kinds["identity"], "positions": kinds["position"]}
        for name, method, given in (
            ("netmf", "netmf", {}),
            ("log-degree", "log-degree", {}),
            ("log-degree, 5 hops", "log-degree", {"hops": 5}),
        ):
            vectors[name] = next(iter(resolve("node-embedder", method, given).fit(graph, seed).transform(graph).values()))
        for name, one in vectors.items():
            found.setdefault(name, []).append(judge(one, labels))
    return {name: stacked(samples) for name, samples in found.items()}, fitted


def stacked(samples: list[Sample]) -> Sample:
    """All splits of all seeds, a row each."""
    return Sample(np.concatenate([one.amounts for one in samples]), np.concatenate([one.sizes for one in samples]))


def roles(place: str, graph: Graph) -> npt.NDArray[np.int64]:
    """The class of each airport."""
    lines = fetch("airports", f"labels-{place}-airports.txt").read_text("utf-8").splitlines()[1:]
    known = dict(line.split() for line in lines if line.strip())
    found = np.full(graph.size, -1, dtype=np.int64)
    found[graph.places(list(known), place)] = [int(label) for label in known.values()]
    return found
