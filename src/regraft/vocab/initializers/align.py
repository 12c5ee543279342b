"""Align: a new token starts as the old spellings it really had in running text, weighted by how often it had them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from regraft.graft import Graft
from regraft.method import Paper
from regraft.progress import progress_bar
from regraft.tokenizer.alignment import batches, overlay
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.merge import Mix, merge_mixes

Spellings = dict[int, Counter[tuple[int, ...]]]


class Align(Initializer):
    r"""Contextual segmentations: :math:`v(t) = \sum_s f_t(s)\,\frac{1}{|s|}\sum_{p \in s} E_p`.

    Every training text is cut by both tokenizers. Each occurrence of *t* takes the tuple *s* of old tokens whose span lies inside its own
    or contains it; :math:`f_t(s)` is the share of occurrences with that tuple. Spans are in bytes, so fragments of one character do not
    share its whole spelling; special tokens are dropped first; a token that occurs twice in a text counts twice. Tokens that the corpus
    never shows keep their Merge start.

    Parameters
    ----------
    consider_mean : also count the context-free spelling, as often as the most frequent one in context.
    align_only : tokens that the corpus never shows take the mean of all rows instead of Merge.
    input, head : "align", or "merge" for Merge rows in that table, whatever `align_only` says.

    Returns a graft of shape (new tokens, old tokens) with rows that sum to 1.
    """

    paper = Paper(
        "How Can We Effectively Expand the Vocabulary of LLMs with 0.01GB of Target Language Text?", "Yamaguchi et al.", 2024, "2406.11477"
    )
    summary = "the old spellings it had in running text, by frequency"
    separate_head: ClassVar[bool] = True

    consider_mean: bool = False
    align_only: bool = False
    input: Literal["align", "merge"] = "align"
    head: Literal["align", "merge"] = "align"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        by_text = getattr(self, source.role) == "align"
        start: list[Mix] = [{} for _ in range(len(target))] if by_text and self.align_only else merge_mixes(target)
        if by_text:
            spellings = context.remember("align", lambda: count_spellings(target, context.texts("align")))
            for row, (token, pieces) in enumerate(zip(target.ids.tolist(), target.pieces, strict=True)):
                counts = Counter(spellings.get(token, Counter()))
                if self.consider_mean and pieces and counts:
                    counts[tuple(pieces)] += max(counts.values())
                if counts:
                    start[row] = mix_of_spellings(counts)
        return Graft.from_ragged([list(m) for m in start], source.vocab_size, [list(m.values()) for m in start])


def count_spellings(target: Target, texts: Sequence[str]) -> Spellings:
    """How often each new token had which tuple of old tokens in `texts`."""
    wanted = np.zeros(target.tokenizer.vocab_size, dtype=bool)
    wanted[target.ids] = True
    special = np.zeros(target.old_tokenizer.vocab_size, dtype=bool)
    special[list(target.old_tokenizer.special_ids)] = True
    counts: Spellings = defaultdict(Counter)
    with progress_bar("aligning old and new tokens", total=len(texts), unit="texts") as bar:
        for batch in batches(texts):
            both = overlay(target.old_tokenizer, target.tokenizer, batch)
            positions = np.flatnonzero(wanted[both.new_ids])
            first, last = both.old_tokens_of(positions)
            specials_before = np.concatenate([[0], np.cumsum(special[both.old_ids])])
            plain = (last > first) & (specials_before[np.maximum(last, first)] == specials_before[first])
            old_ids, columns = both.old_ids.tolist(), (both.new_ids[positions], first, last)
            for token, begin, end in zip(*(column[plain].tolist() for column in columns), strict=True):
                counts[token][tuple(old_ids[begin:end])] += 1
            bar.advance(len(batch))
    return counts


def mix_of_spellings(counts: Counter[tuple[int, ...]]) -> Mix:
    """Weights over old ids: each spelling's share of the occurrences, spread evenly over its pieces."""
    total = sum(counts.values())
    mix: Mix = defaultdict(float)
    for spelling, count in counts.items():
        for piece in spelling:
            mix[piece] += count / total / len(spelling)
    return dict(mix)
