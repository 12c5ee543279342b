"""`regraft text`: encoders of texts. One module a verb; each registers itself with the group."""

from regraft.cli.text import compare, cut, encode, explain, mine, sizes, train, words  # each registers its verb with the group

__all__ = ["compare", "cut", "encode", "explain", "mine", "sizes", "train", "words"]
