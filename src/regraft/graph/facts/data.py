"""Facts to learn from: sets by name, a folder with train, valid and test, or one file that is split.

Leaves: names of entities and relations, and (n, 3) ids of head, relation, tail.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from regraft.datasets import fetch
from regraft.errors import InputError

if TYPE_CHECKING:
    from pykeen.triples import CoreTriplesFactory

HOSTED = ("umls", "kinships", "nations")  # in PyKEEN's package
NAMED = ("codex-s", "wn18rr")
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Facts:
    """A knowledge graph.

    Attributes
    ----------
    entities, relations : names; an id is a place there. train, valid, test : (n, 3) of int64. notes : what was left out.
    """

    name: str
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor
    notes: tuple[str, ...] = field(default=())

    @property
    def sha256(self) -> str:
        """Of names and ids."""
        digest = hashlib.sha256("\n".join((*self.entities, "", *self.relations)).encode())
        for rows in (self.train, self.valid, self.test):
            digest.update(rows.numpy().tobytes())
        return digest.hexdigest()

    def factory(self, inverse: bool) -> "CoreTriplesFactory":
        """What PyKEEN trains on, with or without each relation backwards."""
        from pykeen.triples import CoreTriplesFactory

        return CoreTriplesFactory(self.train, len(self.entities), len(self.relations), create_inverse_triples=inverse)


def open_facts(given: str | Path, *, seed: int = 0) -> Facts:
    """`given` is umls, kinships, nations, codex-s, wn18rr, a folder with train.txt, valid.txt and test.txt, or one file (8:1:1 by `seed`).

    Files: head, relation, tail a line, split by tabs, or by blanks where no line has a tab. Facts of valid and test whose entities or
    relation are not in train are left out, which `notes` say. Raises `InputError`: no such set or file, a line without three names.
    """
    name = str(given).lower()
    if name in HOSTED:
        return _hosted(name)
    if name == "wn18rr":
        return _numbered(name)
    if name in NAMED:
        return _named(name, [read_rows(fetch(name, f"{split}.txt")) for split in SPLITS])
    path = Path(given)
    if path.is_dir():
        files = [path / f"{split}.txt" for split in SPLITS]
        if lost := [file.name for file in files if not file.is_file()]:
            raise InputError(f"{path}: has no {lost[0]}: a folder of facts has train.txt, valid.txt and test.txt")
        return _named(path.name, [read_rows(file) for file in files])
    if path.is_file():
        return _named(path.name, _split(path, read_rows(path), seed))
    raise InputError(f"{given}: no such set, folder or file: choose {', '.join((*HOSTED, *NAMED))}, or give a path")


def read_rows(path: Path) -> np.ndarray[Any, Any]:
    """(n, 3) of names, each fact once. Raises `InputError`: a line without three names, an empty name, no facts."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text: give lines of head, relation, tail") from None
    tabs = any("\t" in line for line in lines)
    found: dict[tuple[str, ...], None] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = tuple(cell.strip() for cell in (line.split("\t") if tabs else line.split()))
        if len(row) != 3:
            raise InputError(f"{path}, line {number}: {len(row)} name{'s' * (len(row) != 1)}: write head, relation, tail with tabs between")
        if "" in row:
            raise InputError(f"{path}, line {number}: an empty {('head', 'relation', 'tail')[row.index('')]}: give each a name")
        found[row] = None
    if not found:
        raise InputError(f"{path}: no facts: write head, relation, tail a line")
    return np.array(list(found), dtype=object)


def _named(name: str, parts: Sequence[np.ndarray[Any, Any]]) -> Facts:
    """Ids in the order of names that train has."""
    entities = {one: number for number, one in enumerate(sorted({*parts[0][:, 0], *parts[0][:, 2]}))}
    relations = {one: number for number, one in enumerate(sorted({*parts[0][:, 1]}))}
    ids, notes = [], []
    for split, rows in zip(SPLITS, parts, strict=True):
        kept = [
            (entities[head], relations[relation], entities[tail])
            for head, relation, tail in rows
            if head in entities and relation in relations and tail in entities
        ]
        if len(kept) < len(rows):
            notes.append(f"{len(rows) - len(kept)} of {len(rows)} facts of {split} have an entity or relation that train has not: left out")
        if not kept:
            raise InputError(f"{name}: no fact of {split} has only entities and relations of train")
        ids.append(torch.tensor(kept, dtype=torch.int64))
    return Facts(name, tuple(entities), tuple(relations), ids[0], ids[1], ids[2], tuple(notes))


def _split(path: Path, rows: np.ndarray[Any, Any], seed: int) -> list[np.ndarray[Any, Any]]:
    """8:1:1 by chance; facts that hold an entity or a relation first go to train."""
    if len(rows) < 10:
        raise InputError(f"{path}: {len(rows)} facts are too few to split: give at least 10")
    order = np.random.default_rng(seed).permutation(len(rows))
    seen: set[tuple[str, str]] = set()
    first: list[int] = []
    others: list[int] = []
    for place in order:
        names = {("entity", rows[place, 0]), ("relation", rows[place, 1]), ("entity", rows[place, 2])}
        (others if names <= seen else first).append(place)
        seen |= names
    tenth = len(rows) // 10
    if len(others) < 2 * tenth:
        raise InputError(f"{path}: {len(others)} facts repeat entities and relations, too few to hold out {2 * tenth}: give three files")
    train, valid, test = [*first, *others[2 * tenth :]], others[:tenth], others[tenth : 2 * tenth]
    return [rows[train], rows[valid], rows[test]]


def _hosted(name: str) -> Facts:
    from pykeen.datasets import get_dataset

    found = get_dataset(dataset=name)
    names = [tuple(sorted(ids, key=ids.__getitem__)) for ids in (found.training.entity_to_id, found.training.relation_to_id)]
    train, valid, test = (part.mapped_triples.contiguous() for part in (found.training, found.validation, found.testing))
    return Facts(name, names[0], names[1], train, valid, test)


def _numbered(name: str) -> Facts:
    """OpenKE's files: a line with the count, then ids of head, tail, relation."""
    names = []
    for kind in ("entity", "relation"):
        lines = fetch(name, f"{kind}2id.txt").read_text(encoding="utf-8").splitlines()[1:]
        pairs = [line.split() for line in lines if line.strip()]
        names.append(tuple(one for one, _ in sorted(pairs, key=lambda pair: int(pair[1]))))
    parts = [torch.from_numpy(np.loadtxt(fetch(name, f"{split}2id.txt"), dtype=np.int64, skiprows=1)) for split in SPLITS]
    train, valid, test = (rows[:, [0, 2, 1]].contiguous() for rows in parts)
    return Facts(name, names[0], names[1], train, valid, test)
