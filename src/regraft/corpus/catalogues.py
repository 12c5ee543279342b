"""Translated strings out of gettext catalogues (`.po` sources and compiled `.mo` files), which every translated program ships."""

import ast
import re
import struct
from collections.abc import Iterable, Iterator

MO_MAGIC = 0x950412DE
_CHARSET = re.compile(rb"charset=([\w.:-]+)", re.IGNORECASE)


class CatalogueError(Exception):
    """The bytes are not a gettext catalogue."""


def read_mo(data: bytes) -> Iterator[str]:
    """Translations of a compiled catalogue, plural forms one by one, the header left out.

    Every offset is checked against the file's length. Raises `CatalogueError` or `UnicodeDecodeError`.
    """
    if len(data) < 20:
        raise CatalogueError("truncated gettext catalogue")
    order = next((mark for mark in "<>" if struct.unpack(f"{mark}I", data[:4])[0] == MO_MAGIC), None)
    if order is None:
        raise CatalogueError("not a gettext catalogue")
    count, originals, translations = struct.unpack(f"{order}8x3I", data[:20])
    if max(originals, translations) + 8 * count > len(data):
        raise CatalogueError("truncated gettext catalogue")
    charset = "utf-8"
    for index in range(count):
        original = _mo_string(data, order, originals + 8 * index)
        translation = _mo_string(data, order, translations + 8 * index)
        if not original:
            named = _CHARSET.search(translation)
            charset = named.group(1).decode("ascii") if named else charset
            continue
        try:
            yield from translation.decode(charset).split("\x00")
        except LookupError:
            raise CatalogueError(f"gettext catalogue in an unknown character set '{charset}'") from None


def _mo_string(data: bytes, order: str, entry: int) -> bytes:
    length, offset = struct.unpack_from(f"{order}2I", data, entry)
    if offset + length > len(data):
        raise CatalogueError("truncated gettext catalogue")
    return data[offset : offset + length]


def read_po(lines: Iterable[str]) -> Iterator[str]:
    """Translations of a catalogue source. Fuzzy and obsolete entries, untranslated ones and the header are left out."""
    entry: dict[str, str] = {}
    field = ""
    fuzzy = False
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        starts_entry = line.startswith("#") or line.startswith(("msgctxt", "msgid ")) or not line
        if starts_entry and any(name.startswith("msgstr") for name in entry):
            yield from _translations(entry, fuzzy)
            entry, field, fuzzy = {}, "", False
        if line.startswith("#"):
            fuzzy = fuzzy or (line.startswith("#,") and "fuzzy" in line)
        elif line:
            keyword, text = _po_line(line, number)
            field = keyword or field
            entry[field] = entry.get(field, "") + text
    yield from _translations(entry, fuzzy)


def _po_line(line: str, number: int) -> tuple[str, str]:
    match = re.fullmatch(r'(msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?)?\s*("(?:[^"\\]|\\.)*")', line)
    if match is None:
        raise CatalogueError(f"line {number} is not a gettext catalogue line")
    return match.group(1) or "", _unquote(match.group(2))


def _unquote(quoted: str) -> str:
    """C escapes of a quoted string; they are a subset of Python's once octal bytes above ASCII are left alone."""
    try:
        return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError):
        return quoted[1:-1]


def _translations(entry: dict[str, str], fuzzy: bool) -> Iterator[str]:
    if not fuzzy and entry.get("msgid"):
        yield from (text for name, text in entry.items() if name.startswith("msgstr") and text)
