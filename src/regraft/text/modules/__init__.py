"""Modules that sentence-transformers does not have. It refuses classes of other packages: `regraft.text.load` opens models with these."""
