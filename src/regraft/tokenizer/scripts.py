"""Which writing system a piece of text belongs to."""

from functools import lru_cache

import regex

SCRIPTS = (
    "Latin",
    "Cyrillic",
    "Greek",
    "Arabic",
    "Hebrew",
    "Devanagari",
    "Bengali",
    "Gurmukhi",
    "Gujarati",
    "Oriya",
    "Tamil",
    "Telugu",
    "Kannada",
    "Malayalam",
    "Sinhala",
    "Thai",
    "Lao",
    "Tibetan",
    "Myanmar",
    "Khmer",
    "Georgian",
    "Armenian",
    "Ethiopic",
    "Hangul",
    "Hiragana",
    "Katakana",
    "Han",
    "Cherokee",
    "Mongolian",
)
_PATTERN = regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in SCRIPTS))


@lru_cache(maxsize=1 << 20)
def script_of(surface: bytes) -> str:
    """Script of the first letter of `surface` that has one; "bytes" for fragments of characters, "Common" for digits and punctuation."""
    text = surface.decode("utf-8", errors="ignore")
    found = _PATTERN.search(text)
    if found:
        return str(found.lastgroup)
    return "Common" if text.strip() or not surface.strip() else "bytes"
