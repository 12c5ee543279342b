"""A corpus as word models read it: lines of ids, how often each word occurs, what is kept of it, and the noise.

Enters: texts. Leaves: `Words`. Row 0 is no word: it stands in the slots of a window that lie outside the line.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from regraft.errors import CorpusError
from regraft.text.words.kernels.compiled import LONGEST
from regraft.vectors.training import WORD

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Cut = Literal["letters", "spaces"]
PADDING = "</s>"


@dataclass(frozen=True, eq=False)
class Words:
    """Attributes: `names` (V,), the padding first, then the most frequent; `counts` (V,); `tokens` (n,) ids without rare words; `lines`
    (m, 2) starts and ends in `tokens`, none longer than a kernel reads; `total` words of the text, rare ones included; `sha256`.
    """

    names: list[str]
    counts: npt.NDArray[np.int64]
    tokens: Ids
    lines: npt.NDArray[np.int64]
    total: int
    sha256: str

    @cached_property
    def index(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def keep(self, t: float) -> Floats:
        r"""How likely a word is kept, shape (V,): :math:`(\sqrt{n/(tT)} + 1)\,tT/n`, at most 1; all are with t = 0."""
        if t == 0:
            return np.ones(len(self.counts), np.float32)
        often = np.maximum(self.counts, 1) / (t * self.counts.sum())
        return np.asarray(np.minimum(1.0, (np.sqrt(often) + 1) / often), dtype=np.float32)

    def noise(self, power: float = 0.75) -> tuple[Floats, Ids]:
        """The noise, words by count to the `power`, the padding never: an alias table of (V,) shares and (V,) others."""
        weights = self.counts.astype(np.float64) ** power
        weights[0] = 0.0
        return alias_table(weights / weights.sum())


def read_words(texts: Iterable[str], *, min_count: int = 5, lowercase: bool = True, cut: Cut = "letters") -> Words:
    """Words of `texts`: runs of letters with their marks or of digits, or with `cut` "spaces" what spaces part (text already segmented).

    Raises `CorpusError` where fewer than two words occur `min_count` times.
    """
    digest, found = hashlib.sha256(), []
    split: Callable[[str], list[str]] = WORD.findall if cut == "letters" else str.split
    for text in texts:
        for line in (text.lower() if lowercase else text).splitlines():
            if words := split(line):
                found.append(words)
                digest.update(" ".join(words).encode("utf-8", "surrogatepass") + b"\n")
    counted = Counter(word for words in found for word in words)
    names = sorted((word for word, count in counted.items() if count >= min_count and word != PADDING), key=lambda w: (-counted[w], w))
    if len(names) < 2:
        raise CorpusError(f"fewer than two words occur {min_count} times or more: give more text, or lower min_count")
    row = {word: number for number, word in enumerate(names, 1)}
    ids = [[row[word] for word in words if word in row] for words in found]
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    tokens = np.fromiter((one for line in ids for one in line), np.int32, int(lengths.sum()))
    counts = np.array([0, *(counted[word] for word in names)], dtype=np.int64)
    return Words([PADDING, *names], counts, tokens, pieces(lengths), sum(counted.values()), digest.hexdigest())


def pieces(lengths: npt.NDArray[np.int64], most: int = LONGEST) -> npt.NDArray[np.int64]:
    """Starts and ends of lines of these `lengths` that follow each other, long ones cut, lines of fewer than two words left out."""
    ends = np.cumsum(lengths)
    parts = -(-lengths // most)
    line = np.repeat(np.arange(len(lengths)), parts)
    part = np.arange(len(line)) - np.repeat(np.cumsum(parts) - parts, parts)
    starts = (ends - lengths)[line] + part * most
    found = np.stack([starts, np.minimum(starts + most, ends[line])], 1)
    return np.ascontiguousarray(found[found[:, 1] - found[:, 0] > 1])


def alias_table(chances: npt.NDArray[np.float64]) -> tuple[Floats, Ids]:
    """Shares and others (V,) such that a place drawn evenly, kept with its share and else exchanged, follows `chances`."""
    heights = chances * len(chances)
    share, other = np.ones(len(chances)), np.arange(len(chances))
    low, high = list(np.flatnonzero(heights < 1)), list(np.flatnonzero(heights >= 1))
    while low and high:
        small, large = low.pop(), high.pop()
        share[small], other[small] = heights[small], large
        heights[large] -= 1 - heights[small]
        (low if heights[large] < 1 else high).append(large)
    return share.astype(np.float32), other.astype(np.int32)
