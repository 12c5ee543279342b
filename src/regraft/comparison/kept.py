"""Finished work in a file of JSON lines, from which an interrupted comparison goes on where it stopped."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Kept:
    """What is finished, in `folder`/`file` (None: in memory only), one JSON object a line under its fingerprint `key`.

    Where a key covers several arms, `settings` tells them apart. A line whose row has an `error` stands in the file and is not found again;
    a line that a kill has cut is left out.

    Attributes
    ----------
    lines : what may be taken over, by (key, settings); of equal ones the last.
    """

    def __init__(self, folder: Path | None, file: str) -> None:
        self.path = None if folder is None else folder / file
        self.lines: dict[tuple[str, str | None], Line] = {}
        self._cut = False  # the file ends within a line
        if self.path and self.path.is_file():
            content = self.path.read_bytes()
            self._cut = bool(content) and not content.endswith(b"\n")
            for line in _whole_lines(content):
                self._add(line)

    def found(self, key: str, settings: str | None = None) -> Line | None:
        """The line under `key` and `settings` that was kept last without an error."""
        return self.lines.get((key, settings))

    def keep(self, key: str, done: Mapping[str, Any], settings: str | None = None) -> None:
        """Append `done` to the file at once."""
        line = {"key": key} | ({} if settings is None else {"settings": settings}) | dict(done)
        self._add(line)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._cut + json.dumps(line, ensure_ascii=False) + "\n")
            self._cut = False

    def _add(self, line: Line) -> None:
        if line.get("row", {}).get("error") is None:
            self.lines[line["key"], line.get("settings")] = line


def _whole_lines(content: bytes) -> Iterator[Line]:
    for text in content.split(b"\n"):
        try:
            line = json.loads(text)
        except ValueError:  # cut by a kill
            continue
        if isinstance(line, dict) and "key" in line:
            yield line
