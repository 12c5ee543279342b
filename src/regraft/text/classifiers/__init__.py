"""Classifiers of documents that train word vectors along."""
