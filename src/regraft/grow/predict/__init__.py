"""Weights for a model that was never trained: a hypernetwork reads the graph of its architecture and predicts every tensor."""
