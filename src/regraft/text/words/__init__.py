"""Vectors of words from plain text: seven models under one trainer, measured after every pass, compared, and written."""
