"""The hypernetwork: features of a graph, the encoder over it, the decoder of tensors, and the file that keeps it."""
