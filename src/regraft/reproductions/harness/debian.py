"""Packages of Debian as objects of a knowledge base: debtags as concepts, suggestions of one for the other as relevance."""

import hashlib
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass

from regraft.datasets import fetch
from regraft.text.explicit.knowledge import Concept, KnowledgeBase, Thing

NO_CONTENT = ("role::", "special::")  # what kind of package it is, not what it is about
RELATIONS = ("Suggests", "Recommends", "Enhances")


@dataclass(frozen=True)
class Packages:
    """`base` : packages with two content tags or more. `related` : pairs of their ids, each once."""

    base: KnowledgeBase
    related: list[tuple[str, str]]


def packages() -> Packages:
    """Debian 12.15 main, amd64. Raises `CorpusError` where the index cannot be had."""
    found: dict[str, dict[str, str]] = {}
    with lzma.open(fetch("debian-bookworm", "Packages.xz"), "rt", encoding="utf-8") as file:
        for fields in stanzas(file):
            found.setdefault(fields["Package"], fields)
    tags = {name: [tag for tag in tags_of(fields.get("Tag", "")) if not tag.startswith(NO_CONTENT)] for name, fields in found.items()}
    kept = {name for name, own in tags.items() if len(own) > 1}
    things = [
        Thing(name, f"{name} {fields['Description']}", tuple(tags[name]), category=fields.get("Section", ""))
        for name, fields in found.items()
        if name in kept
    ]
    concepts = [Concept(tag, tag.replace("::", ": ")) for tag in sorted({tag for name in kept for tag in tags[name]})]
    pairs: dict[tuple[str, str], None] = {}
    for name in kept:
        for relation in RELATIONS:
            for other in re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", found[name].get(relation, "")):
                if other in kept and other != name:
                    pairs[min(name, other), max(name, other)] = None
    return Packages(KnowledgeBase.of(concepts, things), sorted(pairs))


def tags_of(written: str) -> list[str]:
    """`a::b, c::{d, e}` as a::b, c::d, c::e."""
    found: list[str] = []
    for facet, several, single in re.findall(r"([\w-]+)::(?:\{([^}]*)\}|([\w:.+-]+))", written):
        found += [f"{facet}::{tag.strip()}" for tag in several.split(",")] if several else [f"{facet}::{single}"]
    return found


def stanzas(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Fields of each package; a line that begins with a space goes on with the field before it."""
    fields: dict[str, str] = {}
    last = ""
    for line in lines:
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0].isspace():
            fields[last] += f" {line.strip()}"
        else:
            last, _, value = line.partition(":")
            fields[last] = value.strip()
    if fields:
        yield fields


def held_out(name: str, share: float = 0.1) -> bool:
    """Whether a package is kept from training, by its name."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) < share * 16**8
