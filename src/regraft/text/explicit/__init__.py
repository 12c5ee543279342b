"""Spaces in which every dimension is a named concept: the knowledge base that names them, ESA, and what is done with such vectors."""
