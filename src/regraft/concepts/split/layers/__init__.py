"""Factorised layers, how their components are divided, and what they cost."""
