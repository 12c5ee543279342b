"""Graphs: facts of a knowledge graph, vectors of nodes, and classes of nodes with categorical features."""
