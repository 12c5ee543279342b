"""Random walks: ours beside PyPI's node2vec (in an environment of its own) and vectorised PyTorch, on one graph, in steps a second.

The bound: at least 5 x either. node2vec's second-order probabilities are made before its clock starts.

    python benchmarks/run.py walks [--python PYTHON]    # PYTHON has node2vec; without it that peer is left out
"""

import argparse
import subprocess
import sys
import time

import networkx
import numpy as np
import torch

from regraft.graph.edges import open_graph
from regraft.graph.walks import walk

NODES, NEAR, LENGTH, EACH, BOUND = 4000, 10, 40, 10, 5
PEER = f"""
import time, networkx
from node2vec import Node2Vec
graph = networkx.barabasi_albert_graph({NODES}, {NEAR}, seed=0)
import node2vec.node2vec as module
clock = {{}}
generate = module.parallel_generate_walks
def timed(*args, **kwargs):
    start = time.process_time()
    found = generate(*args, **kwargs)
    clock["seconds"] = clock.get("seconds", 0) + time.process_time() - start
    clock["steps"] = clock.get("steps", 0) + sum(len(one) - 1 for one in found)
    return found
module.parallel_generate_walks = timed
Node2Vec(graph, walk_length={LENGTH + 1}, num_walks=1, workers=1, quiet=True)
print(clock["steps"] / clock["seconds"])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="of an environment with node2vec")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    graph = open_graph(networkx.barabasi_albert_graph(NODES, NEAR, seed=0))
    starts = np.repeat(np.arange(graph.size), EACH)
    walk(graph, starts[:2], 2)  # compiles
    walk(graph, starts[:2], 2, p=0.5)
    rates = {
        "ours": median(lambda: walk(graph, starts, LENGTH), len(starts) * LENGTH, options.runs),
        "ours, p = 0.5, q = 2": median(lambda: walk(graph, starts, LENGTH, p=0.5, q=2), len(starts) * LENGTH, options.runs),
        "vectorised PyTorch": median(lambda: vectorised(graph, starts), len(starts) * LENGTH, options.runs),
    }
    if options.python:
        rates["node2vec"] = float(
            subprocess.run([options.python, "-c", PEER], check=True, capture_output=True, text=True).stdout.split()[-1]
        )
    for name, rate in rates.items():
        print(f"{name:24} {rate / 1e6:8.3f} M steps a second, ours is {rates['ours'] / rate:.1f} x")
    met = all(rates["ours"] >= BOUND * rates[name] for name in ("vectorised PyTorch", "node2vec") if name in rates)
    print("holds" if met else "MISSED")
    return 0 if met else 1


def median(run, steps, runs):
    """Steps a second of processor time."""
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return steps / float(np.median(seconds))


def vectorised(graph, starts):
    """All walks a step at a time, as PyTorch does it best: one draw, one gather."""
    pointers = torch.from_numpy(graph.adjacency.indptr.astype(np.int64))
    neighbours = torch.from_numpy(graph.adjacency.indices.astype(np.int64))
    degree = pointers.diff()
    nodes, found = torch.from_numpy(starts), []
    for _ in range(LENGTH):
        nodes = neighbours[pointers[nodes] + (torch.rand(len(nodes)) * degree[nodes]).long()]
        found.append(nodes)
    return torch.stack(found, 1)


if __name__ == "__main__":
    sys.exit(main())
