"""Labelled examples: read from files, or by name."""
