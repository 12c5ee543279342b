"""Modules of sentence-transformers' kind that it does not have itself; `regraft.text.load` opens what is saved with them."""
