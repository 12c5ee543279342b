"""Two tokenizations of one text laid over each other."""

import numpy as np

from regraft.tokenizer.alignment import overlay
from toys.tokenizers import byte_bpe, wordpiece


class TestOverlay:
    def spelling(self, old, new, text):
        both = overlay(old, new, [text])
        first, last = both.old_tokens_of(np.arange(len(both.new_ids)))
        spans = zip(both.new_ids, first, last, strict=True)
        return [(new.pieces[i], [old.pieces[j] for j in both.old_ids[a:b]]) for i, a, b in spans]

    def test_inside_containing_and_crossing(self):
        old, new = byte_bpe(["a b", "c d"]), byte_bpe(["b c", "e f"])
        assert self.spelling(old, new, "abcdef") == [
            ("a", ["ab"]),  # contained
            ("bc", []),  # crosses ab and cd
            ("d", ["cd"]),
            ("ef", ["e", "f"]),
        ]

    def test_several_texts_do_not_run_into_each_other(self):
        old, new = byte_bpe(), byte_bpe(["a b"])
        both = overlay(old, new, ["ab", "", "xab", "é"])
        first, last = both.old_tokens_of(np.flatnonzero(both.new_ids == new.vocab["ab"]))
        assert [[old.pieces[i] for i in both.old_ids[a:b]] for a, b in zip(first, last, strict=True)] == [["a", "b"]] * 2
        assert overlay(old, new, []).old_ids.size == 0

    def test_texts_that_are_read_differently_are_laid_over_by_characters(self):
        old, new = wordpiece(["ab", "##cd"]), byte_bpe(["A B", "AB C"])
        assert self.spelling(old, new, "ABCd")[0] == ("ABC", ["ab"])
