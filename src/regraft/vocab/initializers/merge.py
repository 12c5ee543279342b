"""Merge: a new token starts from the two pieces that were merged into it, all the way down to old tokens."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from regraft.graft import Graft
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target

Mix = dict[int, float]
Parents = Mapping[int, Sequence[tuple[int, int]]]


class Merge(Initializer):
    r"""Recursive halves along the tokenizer's merge tree.

    :math:`v(t) = \frac{1}{|M_t|}\sum_{(a,b) \in M_t} \tfrac12 (v(a) + v(b))` over the merges :math:`M_t` of the new tokenizer that produce
    *t*, down to old tokens, so that a leaf at depth *k* weighs :math:`2^{-k}` (not the flat mean of the leaves). A token whose merges
    do not reach old tokens (WordPiece and Unigram have no merges) takes the mean of its old pieces.

    Returns a graft of shape (new tokens, old tokens) with rows that sum to 1.
    """

    paper = Paper(
        "How Can We Effectively Expand the Vocabulary of LLMs with 0.01GB of Target Language Text?", "Yamaguchi et al.", 2024, "2406.11477"
    )
    summary = "halves of the two pieces it was merged from, recursively"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        mixes = merge_mixes(target)
        return Graft.from_ragged([list(m) for m in mixes], source.vocab_size, [list(m.values()) for m in mixes])


def merge_mixes(target: Target) -> list[Mix]:
    """Weights over old ids for each token of `target`; equal weights on the old pieces where merges do not resolve."""
    resolved: dict[int, Mix] = {new: {int(source): 1.0} for new, source in enumerate(target.source_ids.tolist()) if source >= 0}
    parents = parent_pairs(target)
    return [
        merge_mix(int(token), parents, resolved) or {p: pieces.count(p) / len(pieces) for p in pieces}
        for token, pieces in zip(target.ids, target.pieces, strict=True)
    ]


def parent_pairs(target: Target) -> Parents:
    """The merges of the new tokenizer as {merged id: [(left id, right id), ...]}."""
    parents: dict[int, list[tuple[int, int]]] = defaultdict(list)
    vocab = target.tokenizer.vocab
    for merge in target.tokenizer.spec["model"].get("merges", ()):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left + right in vocab:
            parents[vocab[left + right]].append((vocab[left], vocab[right]))
    return parents


def merge_mix(token: int, parents: Parents, resolved: dict[int, Mix]) -> Mix:
    """Weights of `token` over old ids by recursive halves, remembered in `resolved`; empty if no merge leads to old tokens."""
    if token not in resolved:
        mixes = []
        for left, right in parents.get(token, ()):  # a merged string is longer than its parts, so this ends
            a, b = merge_mix(left, parents, resolved), merge_mix(right, parents, resolved)
            if a and b:
                mixes.append((a, b))
        total: Mix = defaultdict(float)
        for pair in mixes:
            for mix in pair:
                for old, weight in mix.items():
                    total[old] += weight / (2 * len(mixes))
        resolved[token] = dict(total)
    return resolved[token]
