"""Diagonal state spaces: initial values, the kernel in blocks, a layer that convolves and steps, blocks and a network of them."""
