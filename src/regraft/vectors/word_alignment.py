"""Which units of one language are translations of which of another, learned from parallel lines.

Enters: two lists of lines as unit ids (subwords or words). Leaves: how often each target unit was linked to each source unit. The model is
IBM model 1 with an optional prior for the diagonal (Dyer et al., 2013: a reparametrized model 2) and EM over flat arrays: all candidate
links of a chunk of lines at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import digamma

from regraft.corpus.pairs import read_parallel
from regraft.errors import CorpusError, ParameterError
from regraft.progress import progress_bar

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
CHUNK = 1_000_000  # candidate links worked on at once


@dataclass(frozen=True, kw_only=True)
class Aligner:
    """How links are found; the defaults are those of fast_align but for the fixed tension.

    Parameters
    ----------
    iterations : passes of EM, >= 1.
    tension : how strongly links keep to the diagonal (lambda); 0 is IBM model 1.
    null : prior probability that a target unit translates nothing; 0 leaves no such choice.
    alpha : Dirichlet prior of variational Bayes, which keeps rare words from explaining everything; None for plain maximum likelihood.
    max_length : pairs with a longer line on either side are left out.
    """

    iterations: int = 5
    tension: float = 4.0
    null: float = 0.08
    alpha: float | None = 0.01
    max_length: int = 200


@dataclass(frozen=True)
class _Links:
    """Candidate links of a chunk: `pair` indexes (target unit, source unit) pairs; links of one target position start at `starts`."""

    pair: npt.NDArray[np.int32]
    starts: Ids
    widths: Ids
    prior: npt.NDArray[np.float32]


def read_bitext(source: Path, target: Path) -> tuple[list[str], list[str]]:
    """Parallel lines of two UTF-8 files; pairs with an empty side are dropped.

    Raises `CorpusError`: files that cannot be read, of unequal length, or without any pair.
    """
    pairs = [(a.strip(), b.strip()) for a, b in read_parallel(Path(source), Path(target)) if a.strip() and b.strip()]
    if not pairs:
        raise CorpusError(f"{source}, {target}: no line has text on both sides: give parallel text")
    return [a for a, _ in pairs], [b for _, b in pairs]


def link_counts(
    source: Sequence[Sequence[int]], target: Sequence[Sequence[int]], shape: tuple[int, int], aligner: Aligner
) -> sparse.csr_matrix:
    """How often each target unit is linked to each source unit by its most probable link, shape (target units, source units).

    `source` and `target` are parallel lines of ids below ``shape[1]`` and ``shape[0]``.
    """
    model = fit(source, target, shape, aligner)
    counts = np.zeros(len(model.probability))
    for links in model.chunks:
        counts += np.bincount(links.pair[_most_probable(model, links)], minlength=len(counts))
    kept = (counts > 0) & (model.source < shape[1])
    return sparse.csr_matrix((counts[kept], (model.target[kept], model.source[kept])), shape=shape)


def link_positions(source: Sequence[Sequence[int]], target: Sequence[Sequence[int]], shape: tuple[int, int], aligner: Aligner) -> list[Ids]:
    """For each pair of lines the source place that each target place is most probably linked to, -1 for none; shape (target length,).

    Lines that `fit` leaves out, being empty or too long, have no links.
    """
    model = fit(source, target, shape, aligner)
    places = [_most_probable(model, links) - links.starts for links in model.chunks]
    linked = np.concatenate(places) - int(aligner.null > 0)  # the empty word comes first
    found, start = [], 0
    for a, b in zip(source, target, strict=True):
        used = len(b) if usable(a, b, aligner) else 0
        found.append(linked[start : start + used] if used else np.full(len(b), -1, dtype=np.int64))
        start += used
    return found


def _most_probable(model: "Fitted", links: _Links) -> Ids:
    """Index of the best candidate link of each target position of a chunk; of equal links, the first."""
    scores = model.probability[links.pair] * links.prior
    best = np.repeat(np.maximum.reduceat(scores, links.starts), links.widths)
    places = np.where(scores == best, np.arange(len(scores)), len(scores))
    return np.asarray(np.minimum.reduceat(places, links.starts))


def usable(source: Sequence[int], target: Sequence[int], aligner: Aligner) -> bool:
    """Whether a pair of lines is aligned at all."""
    return 0 < len(source) <= aligner.max_length and 0 < len(target) <= aligner.max_length


@dataclass(frozen=True)
class Fitted:
    """`probability` of `target` given `source` for each pair of units that ever met; source unit ``shape[1]`` is the empty word."""

    target: Ids
    source: Ids
    probability: Floats
    chunks: Sequence[_Links]


def fit(source: Sequence[Sequence[int]], target: Sequence[Sequence[int]], shape: tuple[int, int], aligner: Aligner) -> Fitted:
    """EM from uniform probabilities. Raises `ParameterError` for sides of unequal length, `CorpusError` if no pair of lines is usable."""
    if len(source) != len(target):
        raise ParameterError(f"{len(source)} source lines for {len(target)} target lines: they must be parallel")
    kept = [(a, b) for a, b in zip(source, target, strict=True) if usable(a, b, aligner)]
    if not kept:
        raise CorpusError(f"no pair of parallel lines has 1 to {aligner.max_length} tokens on both sides: give shorter lines")
    raw = [_candidates(part, shape[1], aligner) for part in _chunks(kept)]
    keys = np.unique(np.concatenate([np.unique(key) for key, *_ in raw]))
    chunks = []
    while raw:  # 64-bit keys are let go as soon as they are numbered
        key, starts, widths, prior = raw.pop(0)
        chunks.append(_Links(np.searchsorted(keys, key).astype(np.int32), starts, widths, prior))
    targets, sources = keys // (shape[1] + 1), keys % (shape[1] + 1)
    probability = np.full(len(keys), 1.0)
    with progress_bar("aligning parallel text", total=aligner.iterations, unit="passes") as bar:
        for _ in range(aligner.iterations):
            expected = np.zeros(len(keys))
            for links in chunks:
                scores = probability[links.pair] * links.prior
                scores /= np.repeat(np.add.reduceat(scores, links.starts), links.widths)
                expected += np.bincount(links.pair, scores, len(keys))
            probability = _maximize(expected, sources, shape[1] + 1, aligner.alpha)
            bar.advance()
    return Fitted(targets, sources, probability, chunks)


def _maximize(expected: Floats, sources: Ids, count: int, alpha: float | None) -> Floats:
    """Probability of each target unit given its source unit."""
    if alpha is None:
        return np.asarray(expected / np.bincount(sources, expected, count)[sources])
    smoothed = expected + alpha
    total = np.bincount(sources, smoothed, count)[sources]
    return np.asarray(np.exp(digamma(smoothed) - digamma(total)))


def _chunks(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[list[tuple[Sequence[int], Sequence[int]]]]:
    part: list[tuple[Sequence[int], Sequence[int]]] = []
    size = 0
    for pair in pairs:
        part.append(pair)
        size += (len(pair[0]) + 1) * len(pair[1])
        if size >= CHUNK:
            yield part
            part, size = [], 0
    if part:
        yield part


def _candidates(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], sources: int, aligner: Aligner
) -> tuple[Ids, Ids, Ids, npt.NDArray[np.float32]]:
    """Keys of all candidate links, where each target position's begin, how many it has, and their prior. The empty word comes first."""
    extra = int(aligner.null > 0)
    lengths = np.array([(len(a), len(b)) for a, b in pairs], dtype=np.int64)
    old = np.concatenate([np.array([*([sources] * extra), *a], dtype=np.int64) for a, _ in pairs])
    new = np.concatenate([np.array(b, dtype=np.int64) for _, b in pairs])
    line = np.repeat(np.arange(len(pairs)), lengths[:, 1])  # of each target position
    place = np.arange(len(new)) - np.repeat(np.cumsum(lengths[:, 1]) - lengths[:, 1], lengths[:, 1])
    widths = lengths[line, 0] + extra
    starts = np.cumsum(widths) - widths
    position = np.repeat(np.arange(len(new)), widths)
    within = np.arange(len(position)) - starts[position]
    first = np.cumsum(lengths[:, 0] + extra) - lengths[:, 0] - extra
    unit = old[first[line[position]] + within]
    n, m = lengths[line, 0][position], lengths[line, 1][position]
    gap = np.abs((within - extra + 1) / n - (place[position] + 1) / m)
    prior = np.exp(-aligner.tension * gap)
    if extra:
        prior[within == 0] = 0
    prior *= (1 - aligner.null) / np.add.reduceat(prior, starts)[position]
    if extra:
        prior[within == 0] = aligner.null
    return new[position] * (sources + 1) + unit, starts, widths, prior.astype(np.float32)
