"""Vectors of the nodes of a graph without attributes: which role a node has, and where it is."""
