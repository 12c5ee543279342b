"""The cards of all methods as plain data, kept on disk: to list methods again is to read one small file and import none of them."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from regraft import __version__
from regraft.output import atomic_file

Row = dict[str, Any]


def list_cards(family: str | None = None) -> list[Row]:
    """One row a method, family by family, by name: method, family, summary, parameters with defaults, needs, paper, link.

    Raises `ParameterError` for an unknown family.
    """
    stamp, file = _stamp(), _file()
    kept = _read(file, stamp)
    if kept is None:
        kept, complete = _look()
        if complete:  # what an extra would add is seen as soon as it is there
            _keep(file, stamp, kept)
    if family is not None and all(row["family"] != family for row in kept):
        from regraft.method.registry import members

        members(family)  # says which families there are
    return [row for row in kept if family in (None, row["family"])]


def _look() -> tuple[list[Row], bool]:
    """The rows of everything that can be imported, and whether nothing was missing."""
    from regraft.method.registry import FAMILIES, everyone
    from regraft.method.settings import parameters

    rows, complete = [], True
    for key in FAMILIES:
        found, missing = everyone(key)
        complete = complete and not missing
        rows += [
            {
                "method": cls.name,
                "family": cls.family,
                "summary": cls.summary,
                "parameters": parameters(cls),
                "needs": list(cls.needs),
                "paper": f"{cls.paper.authors} {cls.paper.year}",
                "link": cls.paper.link,
            }
            for cls in found
        ]
    return rows, complete


def _stamp() -> str:
    """Another version, or a file that is newer, added or removed, gives another stamp."""
    times = [entry.stat().st_mtime_ns for entry in _sources(Path(__file__).parents[1])]
    return f"{__version__} {len(times)} {max(times)} {Path(__file__).resolve()}"


def _sources(folder: Path) -> list[os.DirEntry[str]]:
    found = []
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found += _sources(Path(entry.path))
        elif entry.name.endswith(".py"):
            found.append(entry)
    return found


def _file() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("regraft")) / "methods.json"


def _read(file: Path, stamp: str) -> list[Row] | None:
    try:
        kept = json.loads(file.read_text("utf-8"))
        return list(kept["rows"]) if kept["stamp"] == stamp else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(file: Path, stamp: str, rows: list[Row]) -> None:
    """A cache that cannot be written costs time, not the listing."""
    with contextlib.suppress(OSError, TypeError, ValueError), atomic_file(file) as fresh:
        fresh.write_text(json.dumps({"stamp": stamp, "rows": rows}, ensure_ascii=False), encoding="utf-8")
