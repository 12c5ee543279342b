"""The accountant: what a table takes, part by part, in words of 32 bits, as it trains and as it serves.

Values, codebooks and scales count as they are stored; an index or a map of rows counts one word an entry; codes of b bits count b/32; the
seeds of a hash count nothing (section 2 of the paper, as its code counts).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from regraft.errors import ParameterError

WORD = 4  # bytes
UNITS = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class Memory:
    """Words by part. `training` : what is held while it trains, without gradients and moments; by default the same.

    Attributes
    ----------
    serving, training : part -> words of 32 bits.
    """

    serving: Mapping[str, float]
    training: Mapping[str, float] = field(default_factory=dict)

    @property
    def serving_words(self) -> float:
        return sum(self.serving.values())

    @property
    def training_words(self) -> float:
        return sum((self.training or self.serving).values())

    @property
    def serving_bytes(self) -> int:
        return round(self.serving_words * WORD)

    @property
    def training_bytes(self) -> int:
        return round(self.training_words * WORD)

    def ratio(self, rows: int, dim: int) -> float:
        """Serving memory by that of a plain float32 table of `rows` x `dim`."""
        return self.serving_words / (rows * dim)


def parse_budget(written: str | float, words: int) -> float:
    """Words that a budget allows for a plain table of `words`: 0.1 or "10%" of it, or bytes as "12MB".

    Raises `ParameterError` for a budget of nothing, above the whole, or that is none.
    """
    text = str(written).strip()
    share = re.fullmatch(r"(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)\s*(%?)", text)
    size = re.fullmatch(r"(\d+\.?\d*)\s*([kKmMgG]?i?[bB])", text)
    if share:
        allowed = float(share[1]) * (0.01 if share[2] else 1) * words
    elif size:
        allowed = float(size[1]) * UNITS[size[2].upper()] / WORD
    else:
        raise ParameterError(f"--budget {written}: write a share as 0.1 or 10%, or a size as 12MB")
    if not 0 < allowed <= words:
        raise ParameterError(
            f"--budget {written}: that is {allowed / words:.3g} of the plain table's {said(words * WORD)}: give more than 0 and at most 1"
        )
    return allowed


def said(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("GB", "MB", "KB"):
        if count >= UNITS[unit]:
            return f"{count / UNITS[unit]:.3g} {unit}"
    return f"{count:.0f} bytes"
