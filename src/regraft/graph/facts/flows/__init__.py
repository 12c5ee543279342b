"""Entities as distributions: invertible maps of one random variable, what lies between two of them, and their place in PyKEEN."""
