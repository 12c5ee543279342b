"""CW2V: each new row is a convex mix of old rows, learned by skip-gram on text cut by the new tokenizer."""

from regraft.vocab.initializers.cw2v.method import CW2V

__all__ = ["CW2V"]
