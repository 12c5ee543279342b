"""The loops of the models, compiled; each is one pass over a piece of the corpus and runs beside other threads."""
