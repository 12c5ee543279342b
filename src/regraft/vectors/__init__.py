"""Vectors of words and tokens: read from files, trained on text, aligned between languages, carried over to a vocabulary."""
