"""Facts to learn from: sets by name, a folder with train, valid and test, or one file that is split.

Leaves: names of entities and relations, and (n, 3) ids of head, relation, tail. Files are read by `regraft.graph.facts.lines`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from regraft.datasets import fetch
from regraft.errors import InputError
from regraft.graph.facts.lines import Ids, Named, read_facts

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
        return _together(name, read_facts([fetch(name, f"{split}.txt") for split in SPLITS]))
    path = Path(given)
    if path.is_dir():
        files = [path / f"{split}.txt" for split in SPLITS]
        if lost := [file.name for file in files if not file.is_file()]:
            raise InputError(f"{path}: has no {lost[0]}: a folder of facts has train.txt, valid.txt and test.txt")
        return _together(path.name, read_facts(files))
    if path.is_file():
        found = read_facts([path])
        return _together(path.name, Named(found.entities, found.relations, _split(path, found.parts[0], seed)))
    raise InputError(f"{given}: no such set, folder or file: choose {', '.join((*HOSTED, *NAMED))}, or give a path")


def _together(name: str, found: Named) -> Facts:
    """Ids in the order of the names that train has, without facts that have others."""
    train = found.parts[0]
    entities, entity = _sorted(found.entities, train[:, [0, 2]])
    relations, relation = _sorted(found.relations, train[:, 1])
    parts, notes = [], []
    for split, rows in zip(SPLITS, found.parts, strict=True):
        ids = np.stack([entity[rows[:, 0]], relation[rows[:, 1]], entity[rows[:, 2]]], 1)
        kept = ids[(ids >= 0).all(1)]
        if len(kept) < len(rows):
            notes.append(f"{len(rows) - len(kept)} of {len(rows)} facts of {split} have an entity or relation that train has not: left out")
        if not len(kept):
            raise InputError(f"{name}: no fact of {split} has only entities and relations of train")
        parts.append(torch.from_numpy(kept))
    return Facts(name, entities, relations, parts[0], parts[1], parts[2], tuple(notes))


def _sorted(names: Sequence[str], used: Ids) -> tuple[tuple[str, ...], Ids]:
    """The names that are `used`, in order, and the new id of each old one; -1 of those that are not."""
    there = np.unique(used).tolist()
    order = sorted(there, key=names.__getitem__)
    found = np.full(len(names), -1, dtype=np.int64)
    found[order] = np.arange(len(order))
    return tuple(names[one] for one in order), found


def _split(path: Path, rows: Ids, seed: int) -> list[Ids]:
    """8:1:1 by chance; facts that hold an entity or a relation first go to train."""
    if len(rows) < 10:
        raise InputError(f"{path}: {len(rows)} facts are too few to split: give at least 10")
    order = np.random.default_rng(seed).permutation(len(rows))
    both = rows[order] + np.array([0, rows[:, [0, 2]].max() + 1, 0])  # relations apart from entities
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(both.ravel(), return_index=True)[1] // 3] = True
    others, tenth = order[~first], len(rows) // 10
    if len(others) < 2 * tenth:
        raise InputError(f"{path}: {len(others)} facts repeat entities and relations, too few to hold out {2 * tenth}: give three files")
    return [rows[np.concatenate([order[first], others[2 * tenth :]])], rows[others[:tenth]], rows[others[tenth : 2 * tenth]]]


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
