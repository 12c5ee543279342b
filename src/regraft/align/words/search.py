"""Which words of the other side a map puts next to given ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from regraft.align.words.dictionary import composed
from regraft.align.words.evaluate import Way, shared_space
from regraft.align.words.fit import load_words
from regraft.errors import ParameterError


def read_words(query: str) -> list[str]:
    """The lines of the file that `query` names, or else the one word that it is. Raises `ParameterError` for none."""
    path = Path(query)
    try:
        words = path.read_text("utf-8").splitlines() if path.is_file() else [query]
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"{query}: cannot be read as words ({getattr(error, 'strerror', None) or 'not UTF-8 text'}): give UTF-8 text, one word a line"
        ) from None
    found = list(dict.fromkeys(composed(word.strip()) for word in words if word.strip()))
    if not found:
        raise ParameterError(f"{query or '--query'}: no word in it: write one a line")
    return found


def retrieval_of(name: str) -> Way:
    """How it is searched, by its name. Raises `ParameterError`."""
    for way in get_args(Way):
        if name.lower() == way:
            return cast(Way, way)
    raise ParameterError(f"--retrieval {name}: choose one of {', '.join(get_args(Way))}")


def search(folder: Path, query: Sequence[str], *, top: int, way: Way, back: bool = False, k: int = 10) -> list[dict[str, Any]]:
    """One row a word and neighbour: word, rank (from 1), neighbour, score; a word without a vector has one row without a neighbour.

    `back` looks for words of the target in the source. Raises `ParameterError` where none of the words has a vector.
    """
    found = load_words(folder)
    asked, other = (found.target, found.source) if back else (found.source, found.target)
    known = [word for word in query if word in asked.index]
    if not known:
        raise ParameterError(f"none of {len(query)} words is in {asked.path}: check spelling and case, or the direction (--back)")
    space = shared_space(found, k)
    ids = np.array([asked.index[word] for word in known])
    nearest = (space.search_back if back else space.search)(ids, top, way)
    rows: list[dict[str, Any]] = []
    for word in query:
        if word not in asked.index:
            rows.append({"word": word, "rank": None, "neighbour": None, "score": None})
            continue
        place = known.index(word)
        rows += [
            {"word": word, "rank": rank, "neighbour": other.words[one], "score": float(score)}
            for rank, (one, score) in enumerate(zip(nearest.ids[place].tolist(), nearest.scores[place], strict=True), 1)
            if one >= 0
        ]
    return rows
