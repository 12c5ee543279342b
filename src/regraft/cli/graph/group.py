"""The groups that the verbs of `regraft graph` register with."""

from regraft.cli.app import command_group

group = command_group("graph", "Graphs: facts of a knowledge graph, vectors of nodes, classes of nodes.")
facts = command_group("facts", "Facts of a knowledge graph (head, relation, tail), learned and asked.", parent=group)
nodes = command_group("nodes", "Vectors of nodes, of a graph that was learned or of one that was never seen.", parent=group)
