"""Trans-tokenizer: a new token is mixed from the pieces of the words that its words translate to."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse

from regraft.errors import CorpusError
from regraft.graft import Graft
from regraft.method import Paper
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.overlap import special_by_role
from regraft.vectors.word_alignment import Aligner, link_counts, read_bitext
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.trans_tokenizer.substrings import smooth
from regraft.vocab.mixing.fallback import Ids, complete, empty_rows, normalized
from regraft.vocab.mixing.uncovered import report_uncovered

Word = tuple[int, ...]
NUMBERS = tuple(dict.fromkeys((*map(str, range(9_999)), *(f"{n:02d}" for n in range(99)))))
SPECIAL_VOTE = 1e9


class TransTokenizer(Initializer):
    r"""Token translation by word alignment: :math:`e_t = \sum_s \frac{c(t, s)}{\sum_{s'} c(t, s')}\,E_s`.

    The lines of ``--bitext`` are cut by their own tokenizers and joined to words; each new word is linked to its most probable old word.
    A pair of words that was linked *c* >= `min_count` times, with m new and n old pieces, gives half of *c* to all m x n pairs of pieces
    equally and half to pairs in order (each list stretched to the least common multiple of m and n). Then come the numbers 0 to 9,998 and
    00 to 98, each as a pair of words linked `min_count` times, one vote for identical tokens, and so many for special tokens of one role
    that nothing else counts (a mask token that the old tokenizer lacks takes the row of padding).

    A token without a link is smoothed: every linked token that starts with it, and every longest linked part of it, gives 1,000
    times its own distribution, 2,000 times for old tokens that begin with a space.

    Tokens that both tokenizers have are copied before any method runs, so their votes here serve the smoothing of others only.

    Parameters
    ----------
    min_count : links that a pair of words needs.
    iterations, tension : of the aligner; tension 0 is IBM model 1.
    smoothing : whether tokens without a link are smoothed.
    fallback : what is left: "constituent-mean", or "unknown" for the row of the old unknown token as in the paper (where there is one).

    Returns a graft of shape (new tokens, old tokens) with non-negative rows that sum to 1. Raises `ParameterError` without ``--bitext``
    or any new token with a link, `CorpusError` for sides of unequal length or when no pair of words is linked `min_count` times.
    """

    paper = Paper(
        "Trans-Tokenization and Cross-lingual Vocabulary Transfers: Language Adaptation of LLMs for Low-Resource NLP",
        "Remy et al.",
        2024,
        "2408.04303",
    )
    summary = "mixed from the pieces of its words' translations in parallel text"
    needs: ClassVar[tuple[str, ...]] = ("bitext",)

    min_count: Annotated[int, Field(ge=1)] = 10
    iterations: Annotated[int, Field(ge=1)] = 7
    tension: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 4.0
    smoothing: bool = True
    fallback: Literal["constituent-mean", "unknown"] = "constituent-mean"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        return context.remember(repr(self), lambda: self._mix(source, target, context))

    def _mix(self, source: Source, target: Target, context: Context) -> Graft:
        votes = normalized(self._votes(source, target, context))
        weights = votes[target.ids]
        if self.smoothing:
            weights = smooth(votes, weights, target)
        unknown = source.tokenizer.unknown_id
        missing = empty_rows(weights)
        fallback = "constituent-mean" if unknown is None else self.fallback
        lacking = f"{self.name}: the parallel text has no link"
        report_uncovered(missing, target, context, lacking, "give more parallel text, or lower min_count", fallback)
        if fallback == "unknown" and len(missing):
            rest = sparse.csr_matrix((np.ones(len(missing)), (missing, np.full(len(missing), unknown))), shape=weights.shape)
            weights = sparse.csr_matrix(weights + rest)
        return complete(weights, target)

    def _votes(self, source: Source, target: Target, context: Context) -> sparse.csr_matrix:
        """c(t, s) over both vocabularies, shape (new vocabulary, old vocabulary)."""
        old_lines, new_lines = read_bitext(*context.aids.need("bitext", self.name))
        old_words, old_ids = number_words(cut_words(source.tokenizer, old_lines))
        new_words, new_ids = number_words(cut_words(target.tokenizer, new_lines))
        aligner = Aligner(iterations=self.iterations, tension=self.tension)
        links = link_counts(old_ids, new_ids, (len(new_words), len(old_words)), aligner).tocoo()
        kept = links.data >= self.min_count
        if not kept.any():
            most = int(links.data.max()) if links.nnz else 0
            raise CorpusError(
                f"{self.name}: no pair of words is linked {self.min_count} times (at most {most}) in {len(old_lines)} lines: "
                "give more parallel text, or lower min_count"
            )
        pairs = [(new_words[i], old_words[j]) for i, j in zip(links.row[kept].tolist(), links.col[kept].tolist(), strict=True)]
        numbers = number_pairs(source.tokenizer, target.tokenizer)
        counts = np.concatenate([links.data[kept], np.full(len(numbers), float(self.min_count))])
        shape = (target.tokenizer.vocab_size, source.vocab_size)
        return sparse.csr_matrix(spread(pairs + numbers, counts, shape) + copy_votes(target, shape))


def cut_words(tokenizer: Tokenizer, texts: list[str]) -> list[list[Word]]:
    """Each text as words, a word as the ids of its pieces. Words are the pre-tokenizer's, and end before a leading space too."""
    initial = [tokenizer.surface(i).startswith(b" ") for i in range(tokenizer.vocab_size)]
    lines: list[list[Word]] = []
    for encoding in tokenizer.backend.encode_batch(texts, add_special_tokens=False):
        words: list[list[int]] = []
        before = None
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            if not words or word != before or initial[token]:
                words.append([])
            words[-1].append(token)
            before = word
        lines.append([tuple(word) for word in words])
    return lines


def number_words(lines: list[list[Word]]) -> tuple[list[Word], list[list[int]]]:
    """The different words, and the lines as indices into them."""
    index: dict[Word, int] = {}
    ids = [[index.setdefault(word, len(index)) for word in line] for line in lines]
    return list(index), ids


def number_pairs(old: Tokenizer, new: Tokenizer) -> list[tuple[Word, Word]]:
    """Each number of `NUMBERS` as (new pieces, old pieces), on its own and after a space."""
    pairs: list[tuple[Word, Word]] = []
    for texts in (list(NUMBERS), [f" {number}" for number in NUMBERS]):
        for a, b in zip(new.encode_batch(texts), old.encode_batch(texts), strict=True):
            if a and b and new.unknown_id not in a and old.unknown_id not in b:
                pairs.append((tuple(a), tuple(b)))
    return pairs


def spread(pairs: list[tuple[Word, Word]], counts: npt.NDArray[np.float64], shape: tuple[int, int]) -> sparse.csr_matrix:
    """Votes of linked words for their pieces: half all with all, half in order. `pairs` are (new pieces, old pieces)."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (new, old) in enumerate(pairs):
        groups.setdefault((len(new), len(old)), []).append(i)
    rows: list[Ids] = []
    columns: list[Ids] = []
    values = []
    for (m, n), members in groups.items():
        new_ids = np.array([pairs[i][0] for i in members], dtype=np.int64)
        old_ids = np.array([pairs[i][1] for i in members], dtype=np.int64)
        longest = np.lcm(m, n)
        in_order = np.arange(longest)
        rows += [np.repeat(new_ids, n, axis=1).ravel(), new_ids[:, in_order * m // longest].ravel()]
        columns += [np.tile(old_ids, (1, m)).ravel(), old_ids[:, in_order * n // longest].ravel()]
        values += [np.repeat(counts[members] / 2 / (m * n), m * n), np.repeat(counts[members] / 2 / longest, longest)]
    places = (np.concatenate(rows), np.concatenate(columns)) if rows else (np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    return sparse.csr_matrix((np.concatenate(values) if values else np.zeros(0), places), shape=shape)


def copy_votes(target: Target, shape: tuple[int, int]) -> sparse.csr_matrix:
    """One vote of each token for its equal, and of special tokens one that outweighs all others; new mask tokens vote for padding."""
    source_ids = target.source_ids.copy()
    masks, padding = special_by_role(target.tokenizer).get("mask", []), special_by_role(target.old_tokenizer).get("pad", [])
    for mask in masks:
        if source_ids[mask] < 0 and padding:
            source_ids[mask] = padding[0]
    shared = np.flatnonzero(source_ids >= 0)
    special = np.isin(shared, [*target.tokenizer.special_ids, *masks])
    return sparse.csr_matrix((np.where(special, SPECIAL_VOTE, 1.0), (shared, source_ids[shared])), shape=shape)
