"""Tokenizers as data, and surgery on them: extend, replace, trim, add words, widen the pre-tokenizer, check reachability."""

from regraft.vocab.tokenizer.change import Change
from regraft.vocab.tokenizer.extend import extend, replace
from regraft.vocab.tokenizer.model import Algorithm, Tokenizer
from regraft.vocab.tokenizer.pretokenizer import measure_segmentation, scripts_cut_at_marks, widen_pretokenizer
from regraft.vocab.tokenizer.reachability import check_reachability
from regraft.vocab.tokenizer.trim import trim
from regraft.vocab.tokenizer.without import without
from regraft.vocab.tokenizer.words import add_words

__all__ = [
    "Algorithm",
    "Change",
    "Tokenizer",
    "add_words",
    "check_reachability",
    "extend",
    "measure_segmentation",
    "replace",
    "scripts_cut_at_marks",
    "trim",
    "widen_pretokenizer",
    "without",
]
