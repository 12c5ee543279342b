"""Surgery on a tokenizer: extend, replace, trim, add words; each gives a `Change`."""

from regraft.vocab.change.change import Change
from regraft.vocab.change.extend import extend, replace
from regraft.vocab.change.trim import trim
from regraft.vocab.change.without import without
from regraft.vocab.change.words import add_words

__all__ = ["Change", "add_words", "extend", "replace", "trim", "without"]
