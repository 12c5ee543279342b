"""Vectors of words from plain text: eight models under one trainer, measured after every pass, compared, and written."""
