"""The spectrum of a representation: one pass over its rows, one decomposition, and every measure that follows from it."""
