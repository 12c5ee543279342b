"""Language models that do not know their symbols: a table of random vectors a sequence, and what such a model makes out of a cipher."""
