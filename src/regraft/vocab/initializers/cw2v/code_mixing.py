"""Sentences of the new language with words of the old in them: the bridge that ties new tokens to old ones in skip-gram training.

Enters: lines and a dictionary, or parallel lines. Leaves: the lines of the target language, parts of them replaced by the source
language. Mundra et al. (CoNLL 2024) train on such text; the limits are those of their script.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import regex

from regraft.errors import ParameterError
from regraft.vectors.alignment import Pairs
from regraft.vectors.word_alignment import Aligner, link_positions

WORD = regex.compile(r"[\w\p{M}]+|[^\w\s]")
Link = tuple[int, int]  # places of a source and a target word


@dataclass(frozen=True)
class Limits:
    """How much is replaced. `total`: of the target's words, at most. `span`: longest source span, as a share of its sentence; with a
    dictionary, which has no source sentence, longest target span. `jump`: a span is left where the offsets of two neighboring links differ
    by more than this share of the sentence's largest offset (the paper's script; that it means neighbors is our reading)."""

    total: float = 0.5
    span: float = 0.4
    jump: float = 0.75


def mix_by_dictionary(lines: Sequence[str], pairs: Pairs, seed: int = 0, limits: Limits | None = None) -> list[str]:
    """Each line with up to half of its words replaced by what `pairs` (source, target) has for them, drawn at random.

    A target of several words is replaced as a whole: each line is read from the left, the longest target that `limits` allow first. Of the
    targets found, ones are drawn up to the limits. Raises `ParameterError` where no line has any.
    """
    limits, draw, glossary = limits or Limits(), np.random.default_rng(seed), Glossary(pairs)
    mixed, known = [], False
    for line in lines:
        words = list(WORD.finditer(line))
        found = glossary.find([word.group().lower() for word in words], int(limits.span * len(words)))
        known = known or bool(found)
        left, spans = int(limits.total * len(words)), {}
        for index in draw.permutation(len(found)).tolist():
            (first, last), sources = found[index]
            if last - first <= left:
                left -= last - first
                spans[first, last] = sources[draw.integers(len(sources))]
        mixed.append(_replaced(line, words, spans))
    if not known:
        raise ParameterError(
            "code-mixing: the dictionary has none of the words of the text (lines of one or two words stay as they are): "
            "is each line source word, target word?"
        )
    return mixed


class Glossary:
    """What a dictionary of pairs (source, target) has for runs of target words, in lower case."""

    def __init__(self, pairs: Pairs) -> None:
        self.sources: dict[str, list[str]] = defaultdict(list)  # of each target, its words after a space each
        self.begun: set[str] = set()  # beginnings of longer targets: a run that is none of them is not read on
        for source, target in pairs:
            run = ""
            for word in WORD.findall(target):
                self.begun.add(run)
                run = f"{run} {word.lower()}"
            self.sources[run].append(source)

    def find(self, words: Sequence[str], most: int) -> list[tuple[Link, list[str]]]:
        """((first, last + 1), sources) of the targets among `words`, none of more than `most`: from the left, the longest at each place."""
        found, place = [], 0
        while place < len(words):
            run, end, sources = "", place + 1, None
            for last in range(place, min(place + most, len(words))):
                run = f"{run} {words[last]}"
                if run in self.sources:
                    end, sources = last + 1, self.sources[run]
                if run not in self.begun:
                    break
            if sources is not None:
                found.append(((place, end), sources))
            place = end
        return found


def mix_by_alignment(source: Sequence[str], target: Sequence[str], seed: int = 0, limits: Limits | None = None) -> list[str]:
    """Each target line with spans replaced by the source spans they are aligned to. The lines are parallel.

    Words are aligned in both directions, and only links that both agree on count. Of all source spans that are linked to one unbroken run
    of target words and to nothing else, ones that do not overlap are drawn at random up to the limits.
    """
    limits, draw = limits or Limits(), np.random.default_rng(seed)
    cut = [[list(WORD.finditer(line)) for line in side] for side in (source, target)]
    links = agreed_links(*[[[word.group().lower() for word in words] for words in side] for side in cut])
    mixed = []
    for line, ours, theirs, found in zip(target, *cut, links, strict=True):
        taken = np.zeros(len(theirs), dtype=bool)
        spans: dict[Link, str] = {}
        candidates = aligned_spans(found, len(ours), limits)
        for index in draw.permutation(len(candidates)).tolist():
            (a, b), (c, d) = candidates[index]
            if not taken[c:d].any() and taken.sum() + d - c <= limits.total * len(theirs):
                taken[c:d] = True
                first, last = ours[a], ours[b - 1]
                spans[c, d] = first.string[first.start() : last.end()]
        mixed.append(_replaced(line, theirs, spans))
    return mixed


def agreed_links(source: Sequence[Sequence[str]], target: Sequence[Sequence[str]]) -> list[set[Link]]:
    """(source place, target place) of every word pair that the aligner links in both directions, line by line."""
    ids = [{word: i for i, word in enumerate(dict.fromkeys(word for line in side for word in line))} for side in (source, target)]
    ours, theirs = ([[known[word] for word in line] for line in side] for known, side in zip(ids, (source, target), strict=True))
    sizes = len(ids[0]), len(ids[1])
    forth = link_positions(ours, theirs, (sizes[1], sizes[0]), Aligner())
    back = link_positions(theirs, ours, (sizes[0], sizes[1]), Aligner())
    return [
        {(int(i), j) for j, i in enumerate(a) if i >= 0} & {(i, int(j)) for i, j in enumerate(b) if j >= 0}
        for a, b in zip(forth, back, strict=True)
    ]


def aligned_spans(links: set[Link], length: int, limits: Limits) -> list[tuple[Link, Link]]:
    """All ((a, b), (c, d)): source words a to b - 1 are linked to target words c to d - 1, and neither side to anything else."""
    largest = max((abs(i - j) for i, j in links), default=0)
    ordered = sorted(links)
    found = []
    for first in range(len(ordered)):
        for last in range(first, len(ordered)):
            inside = ordered[first : last + 1]
            a, b = inside[0][0], inside[-1][0] + 1
            if b - a > limits.span * length:
                break
            offsets = [i - j for i, j in inside]
            jumps = max((abs(x - y) for x, y in pairwise(offsets)), default=0)
            c, d = min(j for _, j in inside), max(j for _, j in inside) + 1
            crossed = any(c <= j < d and not a <= i < b for i, j in links)
            if not crossed and (largest == 0 or jumps <= limits.jump * largest):
                found.append(((a, b), (c, d)))
    return found


def _replaced(line: str, words: Sequence[regex.Match[str]], spans: dict[Link, str]) -> str:
    """`line` with the words of each span replaced by its text."""
    parts, place = [], 0
    for (first, last), text in sorted(spans.items()):
        parts += [line[place : words[first].start()], text]
        place = words[last - 1].end()
    return "".join([*parts, line[place:]])
