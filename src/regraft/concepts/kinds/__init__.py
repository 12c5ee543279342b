"""Kinds of concept, one file each."""
