"""Tokenizers as data, and surgery on them: extend, replace, trim, add words, widen the pre-tokenizer, check reachability."""

from regraft.vocab.tokenizer.change import Change
from regraft.vocab.tokenizer.extend import extend, replace
from regraft.vocab.tokenizer.model import Algorithm, Tokenizer
from regraft.vocab.tokenizer.reachability import check_reachability

__all__ = ["Algorithm", "Change", "Tokenizer", "check_reachability", "extend", "replace"]
