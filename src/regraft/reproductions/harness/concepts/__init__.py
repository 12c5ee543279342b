"""Concepts for `toy-t2i` and what their reproductions measure."""
