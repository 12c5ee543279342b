"""Queries, keys and values are one tensor to a hypernetwork, however a model keeps them.

Enters: a graph. Leaves: the same graph with projections that read the same value and meet again in one place, such as a gate and what it
gates, as one node. Apart they would be nodes that nothing tells from each other, and get the same weights entry by entry. See `graph.rows`
for which rows of the one tensor are whose.
"""

from dataclasses import replace

from regraft.grow.predict.graph import Graph, Node

PASSED = {"bias", "ln", "rmsnorm"}  # between a projection and where it meets the others


def fused(graph: Graph) -> Graph:
    """`graph` with such projections, and their biases, as one node each."""
    after: dict[int, list[int]] = {number: [] for number in range(len(graph))}
    before: dict[int, list[int]] = {number: [] for number in range(len(graph))}
    for a, b in graph.edges:
        after[a].append(b)
        before[b].append(a)
    groups: dict[object, list[int]] = {}
    for number, node in enumerate(graph.nodes):
        if node.operation == "conv" and len(node.slots) == 1:
            kind = replace(node.slots[0], name="")
            groups.setdefault((tuple(before[number]), kind, frozenset(_meets(number, graph, after, before))), []).append(number)
    into: dict[int, int] = {}
    for group in (one for one in groups.values() if len(one) > 1):
        into |= dict.fromkeys(group, group[0])
        biases = [[b for b in after[one] if graph.nodes[b].operation == "bias" and before[b] == [one]] for one in group]
        if all(len(one) == 1 for one in biases):
            into |= {one[0]: biases[0][0] for one in biases}
    return _merged(graph, into)


def _meets(number: int, graph: Graph, after: dict[int, list[int]], before: dict[int, list[int]]) -> set[int]:
    """The nodes that a projection reaches past its bias and norms."""
    found = set()
    for one in after[number]:
        alone = graph.nodes[one].operation in PASSED and before[one] == [number]
        found |= _meets(one, graph, after, before) if alone else {one}
    return found


def _merged(graph: Graph, into: dict[int, int]) -> Graph:
    """Nodes merged into the first of their group, and all of them in topological order again."""
    if not into:
        return graph
    slots: dict[int, list[int]] = {}
    for old, first in into.items():
        slots.setdefault(first, []).append(old)
    kept = [number for number in range(len(graph)) if into.get(number, number) == number]
    edges = dict.fromkeys((into.get(a, a), into.get(b, b)) for a, b in graph.edges)
    order = _sorted(kept, list(edges))
    place = {old: new for new, old in enumerate(order)}
    nodes = []
    for old in order:
        node, members = graph.nodes[old], [graph.nodes[one].slots[0] for one in slots.get(old, [])]
        names = tuple(one.name for one in members)
        nodes.append(Node(node.operation, tuple(replace(one, fused=names) for one in members)) if members else node)
    return Graph(tuple(nodes), tuple((place[a], place[b]) for a, b in edges), graph.tokens)


def _sorted(nodes: list[int], edges: list[tuple[int, int]]) -> list[int]:
    """`nodes` so that each comes after those that lead to it, in the order given where that is free."""
    waits = {one: {a for a, b in edges if b == one} for one in nodes}
    done: list[int] = []
    while waits:
        ready = next(one for one in nodes if one in waits and not waits[one])
        done.append(ready)
        del waits[ready]
        for others in waits.values():
            others.discard(ready)
    return done
