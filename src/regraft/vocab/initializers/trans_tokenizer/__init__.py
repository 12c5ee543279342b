"""Trans-tokenizer: a new token is mixed from the pieces of the words that its words translate to."""

from regraft.vocab.initializers.trans_tokenizer.method import TransTokenizer

__all__ = ["TransTokenizer"]
