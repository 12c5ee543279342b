"""A tokenizer as data: its model and files, how it cuts text, what its tokens are, and two of them laid over each other."""

from regraft.tokenizer.model import Algorithm, Tokenizer
from regraft.tokenizer.pretokenizer import measure_segmentation, scripts_cut_at_marks, widen_pretokenizer
from regraft.tokenizer.reachability import check_reachability

__all__ = ["Algorithm", "Tokenizer", "check_reachability", "measure_segmentation", "scripts_cut_at_marks", "widen_pretokenizer"]
