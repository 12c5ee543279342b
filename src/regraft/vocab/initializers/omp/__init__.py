"""OMP: a new token's place among shared tokens is read off a donor model and rebuilt from the old rows of the same tokens."""

from regraft.vocab.initializers.omp.method import OMP

__all__ = ["OMP"]
