"""A knowledge base: objects with a text and the concepts they are known to have, and the concepts with names and parents.

One JSONL file, two kinds of lines, in any order:

    {"id": "0ad", "text": "real-time strategy game", "concepts": ["game::strategy"], "not": ["role::library"], "category": "games"}
    {"concept": "game::strategy", "name": "strategy", "parents": ["game"], "text": "a game of planning"}

`not` (concepts the object is known not to have) and `category` may be missing, and so may every line of a concept; `text` may be a list of
fields. An object whose `concepts` are missing or empty is unknown, not without concepts.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array

from regraft.errors import CorpusError, ParameterError
from regraft.output import atomic_file
from regraft.text.tasks.files import read_rows

MIN_OBJECTS = 30  # a concept of fewer objects is no dimension


@dataclass(frozen=True)
class Concept:
    """One dimension. `parents` : ids of broader concepts. `text` : what it means, beside its name."""

    id: str
    name: str
    parents: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Thing:
    """One object: its text, concepts it has, concepts it is known not to have, and a category that near negatives are drawn from."""

    id: str
    text: str
    concepts: tuple[str, ...] = ()
    not_concepts: tuple[str, ...] = ()
    category: str = ""


@dataclass(frozen=True)
class KnowledgeBase:
    """`concepts` : by id, in the order of the dimensions. `things` : the objects. What objects name and no concept is, is left out."""

    concepts: Mapping[str, Concept]
    things: Sequence[Thing] = field(default=())

    @classmethod
    def open(cls, path: str | Path) -> "KnowledgeBase":
        """Read the file at `path`. Raises `ParameterError` where there is none, `CorpusError` for what is no knowledge base."""
        path = Path(path)
        if not path.is_file():
            raise ParameterError(f"{path}: no such knowledge base: it is a .jsonl of objects with id, text and concepts")
        if path.suffix.lower() not in (".jsonl", ".ndjson"):
            raise ParameterError(f"{path}: a knowledge base is a .jsonl of objects with id, text and concepts")
        concepts: dict[str, Concept] = {}
        things: dict[str, Thing] = {}
        for number, row in enumerate(read_rows(path), 1):
            where = f"{path}, record {number}"
            if "concept" in row:
                one = _concept(row, where)
                concepts[one.id] = one
            else:
                thing = _thing(row, where)
                if thing.id in things:
                    raise CorpusError(f"{where}: a second object with the id {thing.id}")
                things[thing.id] = thing
        return cls.of(concepts.values(), list(things.values()))

    @classmethod
    def of(cls, concepts: Iterable[Concept], things: Sequence[Thing]) -> "KnowledgeBase":
        """With a concept for every id that an object or a concept names. Raises `CorpusError` for a circle, or no concept at all."""
        known = {one.id: one for one in concepts}
        for name in [name for one in known.values() for name in one.parents] + [name for one in things for name in one.concepts]:
            known.setdefault(name, Concept(name, name))
        if not known:
            raise CorpusError(f"a knowledge base of {len(things):,} objects without a concept: give `concepts` with them")
        base = cls(known, things)
        _ = base.ancestors
        return base

    @property
    def names(self) -> list[str]:
        """The name of each dimension; an id stands behind it where two concepts share a name."""
        count = Counter(one.name for one in self.concepts.values())
        return [one.name if count[one.name] == 1 else f"{one.name} ({one.id})" for one in self.concepts.values()]

    @cached_property
    def ancestors(self) -> dict[str, tuple[str, ...]]:
        """All broader concepts of each, itself left out. Raises `CorpusError` for a circle."""
        found: dict[str, tuple[str, ...]] = {}
        for start in self.concepts:
            pending: list[tuple[str, bool]] = [(start, False)]
            opened: set[str] = set()
            while pending:
                one, done = pending.pop()
                parents = [name for name in self.concepts[one].parents if name in self.concepts]
                if done:
                    opened.discard(one)
                    found[one] = tuple(dict.fromkeys(name for parent in parents for name in (parent, *found[parent])))
                elif one in opened:
                    raise CorpusError(f"concept {one} is its own ancestor: the hierarchy goes in a circle")
                elif one not in found:
                    opened.add(one)
                    pending += [(one, True), *((parent, False) for parent in parents if parent not in found)]
        return found

    def propagated(self) -> "KnowledgeBase":
        """Every object has the ancestors of its concepts too."""

        def widened(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(one for name in names for one in (name, *self.ancestors.get(name, ()))))

        return replace(self, things=[replace(thing, concepts=widened(thing.concepts)) for thing in self.things])

    def pruned(self, min_objects: int = MIN_OBJECTS, rare: Literal["drop", "parent"] = "drop") -> "KnowledgeBase":
        """Without concepts of fewer than `min_objects` objects; with `rare` "parent" their objects have the nearest kept ancestors instead.

        Raises `CorpusError` where none is left.
        """
        count = Counter(name for thing in self.things for name in set(thing.concepts))
        if rare == "parent":  # from the leaves up: what a child gives away may make its parent frequent enough
            base, order = self, sorted(self.concepts, key=lambda name: -len(self.ancestors[name]))
            owners: dict[str, set[int]] = {name: set() for name in base.concepts}
            for number, thing in enumerate(base.things):
                for name in thing.concepts:
                    if name in owners:
                        owners[name].add(number)
            for name in order:
                if len(owners[name]) < min_objects:
                    for parent in base.concepts[name].parents:
                        owners[parent] |= owners[name]
                    owners[name] = set()
            held: dict[int, list[str]] = {}
            for name, numbers in owners.items():
                for number in numbers:
                    held.setdefault(number, []).append(name)
            things: Sequence[Thing] = [replace(thing, concepts=tuple(held.get(n, ()))) for n, thing in enumerate(base.things)]
            kept = {name: one for name, one in base.concepts.items() if owners[name]}
        else:
            things, kept = self.things, {name: one for name, one in self.concepts.items() if count[name] >= min_objects}
        if not kept:
            raise CorpusError(f"no concept has {min_objects} objects or more (the most frequent has {max(count.values(), default=0)})")
        return replace(self, concepts=kept, things=things)

    def labels(self) -> tuple[csr_array, csr_array]:
        """Concepts that objects have, and that they are known not to have: two (objects, K) of 0 and 1."""
        at = {name: column for column, name in enumerate(self.concepts)}

        def table(rows: Sequence[Sequence[str]]) -> csr_array:
            columns = [sorted({at[name] for name in row if name in at}) for row in rows]
            ends = np.cumsum([0, *map(len, columns)])
            flat = np.array([one for row in columns for one in row], dtype=np.int64)
            return csr_array((np.ones(len(flat), np.float32), flat, ends), shape=(len(rows), len(at)))

        return table([thing.concepts for thing in self.things]), table([thing.not_concepts for thing in self.things])

    def articles(self) -> list[str]:
        """What each concept is described by: its name, its text, the texts of its objects. ESA's corpus."""
        parts: dict[str, list[str]] = {name: [one.name, one.text] for name, one in self.concepts.items()}
        for thing in self.things:
            for name in thing.concepts:
                if name in parts:
                    parts[name].append(thing.text)
        return ["\n".join(filter(None, texts)) for texts in parts.values()]

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        concepts = [{"concept": one.id, "name": one.name, "parents": list(one.parents), "text": one.text} for one in self.concepts.values()]
        things = [
            {"id": one.id, "text": one.text, "concepts": list(one.concepts), "not": list(one.not_concepts), "category": one.category}
            for one in self.things
        ]
        rows: list[dict[str, Any]] = [{key: value for key, value in row.items() if value not in ("", [])} for row in concepts + things]
        with atomic_file(path) as partial:
            partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all concepts and objects in their order."""
        return hashlib.sha256(repr((list(self.concepts.values()), list(self.things))).encode()).hexdigest()


def _concept(row: Mapping[str, Any], where: str) -> Concept:
    name = row["concept"]
    if not isinstance(name, str) or not name.strip():
        raise CorpusError(f"{where}: `concept` is the id of a concept, as text")
    return Concept(name, str(row.get("name") or name), _words(row, "parents", where), _text(row, where, needed=False))


def _thing(row: Mapping[str, Any], where: str) -> Thing:
    if not isinstance(row.get("id"), str | int):
        raise CorpusError(f"{where}: needs id and text (an object), or concept (a concept)")
    concepts, absent = _words(row, "concepts", where), _words(row, "not", where)
    if both := set(concepts) & set(absent):
        raise CorpusError(f"{where}: {min(both)} stands in `concepts` and in `not`")
    return Thing(str(row["id"]), _text(row, where), concepts, absent, str(row.get("category") or ""))


def _text(row: Mapping[str, Any], where: str, *, needed: bool = True) -> str:
    given = row.get("text") or ""
    fields = given if isinstance(given, list) else [given]
    if not all(isinstance(one, str) for one in fields) or (needed and not any(one.strip() for one in fields)):
        raise CorpusError(f"{where}: `text` is empty or no text")
    return "\n".join(fields)


def _words(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    given = row.get(key) or []
    if not isinstance(given, list) or not all(isinstance(one, str) and one.strip() for one in given):
        raise CorpusError(f"{where}: `{key}` is a list of ids of concepts")
    return tuple(dict.fromkeys(given))
