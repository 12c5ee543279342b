"""Concepts for a frozen text-to-image model: words it did not know, words taken out of a prompt, classes apart, images of embeddings."""
