"""An anchor set: ids and samples in a fixed order, with who encodes them and how they were chosen; one JSON file.

Enters: ids, and the samples themselves where they are text. Leaves: positions of the anchors in any space that has the ids, or their rows
from any encoder. Two sets can be used together only if their ids stand in the same order, and that is checked.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.errors import InputError, OutputError, ParameterError, RowsError
from regraft.output import atomic_file

SCHEMA = 1
FIELDS = ("ids", "samples", "encoder", "method", "seed")
Encode = Callable[[Sequence[str]], npt.NDArray[Any]]


@dataclass(frozen=True)
class AnchorSet:
    """k anchors in a fixed order.

    Attributes
    ----------
    ids : k different names; what two spaces share. Row numbers are written as text.
    samples : the k texts that an encoder encodes, or None where only rows of a table are meant (words of a vocabulary are both).
    encoder : the name of the encoder or table that this side of the anchors is for.
    method : how they were chosen: a sampler's name, "given" or "parallel".
    seed : of the choice; None where nothing was drawn.

    Raises `ParameterError`: no ids, an id twice, samples not as many.
    """

    ids: tuple[str, ...]
    samples: tuple[str, ...] | None = None
    encoder: str = ""
    method: str = "given"
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.ids:
            raise RowsError("anchors: none given: name at least one")
        if len(set(self.ids)) < len(self.ids):
            twice = next(name for place, name in enumerate(self.ids) if name in self.ids[:place])
            raise RowsError(f"anchors: '{twice}' is there twice: give each anchor once")
        if self.samples is not None and len(self.samples) != len(self.ids):
            raise RowsError(f"anchors: {len(self.samples)} samples for {len(self.ids)} ids: they must be as many")

    @classmethod
    def of_texts(cls, texts: Sequence[str], *, encoder: str = "", method: str = "given", seed: int | None = None) -> "AnchorSet":
        """Anchors that are texts, each its own id; a text that comes again is dropped, and so is a blank one."""
        found = tuple(dict.fromkeys(text for text in texts if text.strip()))
        return cls(found, found, encoder, method, seed)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def order_hash(self) -> str:
        """Hash of the ids in their order: equal for sets that may be used together."""
        return hashlib.sha256("\0".join(self.ids).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def hash(self) -> str:
        """Hash of ids and samples in their order."""
        text = json.dumps([self.ids, self.samples])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def for_encoder(self, encoder: str) -> "AnchorSet":
        """The same anchors for another encoder."""
        return replace(self, encoder=encoder)

    def check_shared(self, other: "AnchorSet") -> None:
        """Raise `ParameterError` unless `other` has the same ids in the same order."""
        if len(self) != len(other):
            raise RowsError(f"anchors: {len(self)} on one side and {len(other)} on the other: both spaces need the same ones")
        for place, (left, right) in enumerate(zip(self.ids, other.ids, strict=True)):
            if left != right:
                raise RowsError(f"anchors: '{left}' and '{right}' stand at place {place}: both spaces need the same order")

    def check_apart(self, ids: Sequence[str], what: str = "test items") -> None:
        """Raise `ParameterError` if one of the anchors is among `ids`, such as those of the test side."""
        both = sorted(set(self.ids) & set(ids))
        if both:
            raise RowsError(f"anchors: {len(both)} of them are {what} ('{both[0]}'): choose anchors from the training side")

    def positions(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Where the anchors stand in a space whose rows have `ids`, shape (k,). Raises `ParameterError` for one that is not there."""
        place = {name: row for row, name in reversed(list(enumerate(ids)))}
        missing = [name for name in self.ids if name not in place]
        if missing:
            raise RowsError(f"anchors: {len(missing)} of {len(self)} are not in this space ('{missing[0]}'): take shared ones only")
        return np.array([place[name] for name in self.ids], dtype=np.int64)

    def encode(self, encode: Encode) -> npt.NDArray[np.floating[Any]]:
        """Rows (k, d) of the anchors from `encode`, which takes the list of samples. Raises `ParameterError` where there are no samples."""
        if self.samples is None:
            raise RowsError("anchors: this set holds ids only and can't be encoded: keep the samples with it")
        rows = np.asarray(encode(list(self.samples)))
        if rows.ndim != 2 or len(rows) != len(self):
            raise RowsError(f"anchors: the encoder gave shape {rows.shape} for {len(self)} samples: one row a sample is needed")
        return rows

    def save(self, path: str | Path) -> Path:
        """Write the set as JSON, whole or not at all. Raises `OutputError`."""
        path = Path(path)
        about = {"schema": SCHEMA, **asdict(self), "order_hash": self.order_hash, "hash": self.hash}
        try:
            with atomic_file(path) as partial:
                partial.write_text(json.dumps(about, indent=1), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path}: the anchors can't be written ({error.strerror}); choose another place") from None
        return path

    @classmethod
    def load(cls, path: str | Path) -> "AnchorSet":
        """The set of a file that `save` wrote. Raises `InputError`: no such file, another kind of file, or one that was changed."""
        try:
            about = json.loads(Path(path).read_text("utf-8"))
            if about["schema"] != SCHEMA:
                raise InputError(f"{path}: schema {about['schema']} is not one that this version knows: use a newer regraft")
            samples = about["samples"]
            about |= {"ids": tuple(map(str, about["ids"])), "samples": None if samples is None else tuple(map(str, samples))}
            found = cls(**{name: about[name] for name in FIELDS})
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, ParameterError):
                raise
            raise InputError(f"{path}: not an anchor set ({' '.join(str(error).split())}): give the file that was saved") from None
        if found.hash != about.get("hash"):
            raise InputError(f"{path}: the anchors are not those that were saved (their hash differs): make the set anew")
        return found


def parallel_anchors(
    left: Sequence[str], right: Sequence[str], *, encoders: tuple[str, str] = ("", ""), names: Sequence[str] | None = None
) -> tuple[AnchorSet, AnchorSet]:
    """Two sets of one order from pairs that mean the same: translations, captions, the same word in two vocabularies.

    `names` are the ids of the pairs (default: their numbers). A pair that comes again is dropped. Raises `ParameterError` for lists that
    are not as long.
    """
    if len(left) != len(right) or (names is not None and len(names) != len(left)):
        raise RowsError(f"parallel anchors: {len(left)} on the left, {len(right)} on the right: give pairs")
    first: dict[tuple[str, str], str] = {}
    for place, pair in enumerate(zip(left, right, strict=True)):
        first.setdefault(pair, str(place) if names is None else str(names[place]))
    ids = tuple(first.values())
    sides = tuple(tuple(pair[side] for pair in first) for side in (0, 1))
    one, other = (AnchorSet(ids, samples, encoder, "parallel") for samples, encoder in zip(sides, encoders, strict=True))
    return one, other
