"""A dictionary as encoders learn from it: rows of entries, each with its definitions.

Enters: pairs (entry, definition). Leaves: rows, the rows of each definition, and a side kept apart for reverse look-up.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Pair = tuple[str, str]


@dataclass(frozen=True)
class Dictionary:
    """`names` : the entries of each row, several where they have the very same definitions. `definitions` : of each row, each once."""

    names: tuple[tuple[str, ...], ...]
    definitions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def rows_of(self) -> dict[str, tuple[int, ...]]:
        """The rows that a definition belongs to, for every definition, in order of its first."""
        found: dict[str, list[int]] = {}
        for row, texts in enumerate(self.definitions):
            for text in texts:
                found.setdefault(text, []).append(row)
        return {text: tuple(rows) for text, rows in found.items()}

    def averaged(self, vectors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The mean vector of each row (rows, d), from those of all definitions (definitions, d) in the order of `rows_of`."""
        owners = list(self.rows_of.values())
        at = np.repeat(np.arange(len(vectors)), [len(rows) for rows in owners])
        rows = np.array([row for some in owners for row in some], dtype=np.int64)
        sums = np.zeros((len(self), vectors.shape[1]))
        np.add.at(sums, rows, vectors[at])
        return sums / np.bincount(rows, minlength=len(self))[:, None]

    def among(self, rows: Collection[int]) -> "Dictionary":
        """Only these rows, in their order here."""
        kept = sorted(set(rows))
        return Dictionary(tuple(self.names[row] for row in kept), tuple(self.definitions[row] for row in kept))


def dictionary(
    pairs: Iterable[Pair], *, readable: Callable[[str], bool] = lambda _: True, first_only: bool = False, merge: bool = True
) -> Dictionary:
    """Rows out of pairs: definitions that are not `readable` are left out, and then entries that have none left.

    Parameters
    ----------
    first_only : a definition that several entries share belongs to the first alone (one entry a synset). merge : entries whose definitions
        are the same become one row: two equal rows could not be told apart.
    """
    found: dict[str, dict[str, None]] = {}
    taken: set[str] = set()
    known: dict[str, bool] = {}
    for entry, definition in pairs:
        name, text = " ".join(entry.split()), " ".join(definition.split())
        if text not in known:
            known[text] = bool(text) and readable(text)
        if not name or not known[text] or (first_only and text in taken and text not in found.get(name, {})):
            continue
        taken.add(text)
        found.setdefault(name, {})[text] = None
    rows: dict[object, tuple[list[str], tuple[str, ...]]] = {}
    for name, texts in found.items():
        rows.setdefault(frozenset(texts) if merge else name, ([], tuple(texts)))[0].append(name)
    return Dictionary(tuple(tuple(names) for names, _ in rows.values()), tuple(texts for _, texts in rows.values()))


def hold_out(pairs: Iterable[Pair], share: float) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Training pairs, indexed pairs, and asked pairs of a reverse dictionary, drawn by hash.

    Of a `share` of the entries with two definitions or more, one that no other entry has is asked for; nothing of such an entry, and no
    definition of its, is trained on. The index holds every pair but those that are asked.
    """
    pairs = list(dict.fromkeys(pairs))
    owners: dict[str, set[str]] = {}
    own: dict[str, list[str]] = {}
    for name, text in pairs:
        owners.setdefault(text, set()).add(name)
        own.setdefault(name, []).append(text)
    asked: dict[str, str] = {}
    for name, texts in own.items():
        alone = [text for text in texts if len(owners[text]) == 1]
        if len(texts) > 1 and alone and _drawn(name) < share:
            asked[name] = min(alone, key=_drawn)
    apart = {text for name in asked for text in own[name]}
    train = [(name, text) for name, text in pairs if name not in asked and text not in apart]
    return train, [(name, text) for name, text in pairs if asked.get(name) != text], list(asked.items())


def _drawn(text: str) -> float:
    """A number from 0 to 1 that hangs on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8
