"""Classes of nodes that have sets of categorical values, in a graph."""
