r"""Pre-tokenizers and combining marks: which scripts a pattern cuts apart, and how to widen it.

Patterns of the GPT-2 type take runs of letters, ``\p{L}+``. A vowel sign or an accent written as a character of its own is a mark,
``\p{M}``, so such a word falls into pieces that no merge can join again. Widened, a mark belongs to the letter before it; text without a
mark behind a letter is cut exactly as before.
"""

import copy
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import regex

from regraft.errors import TokenizerError
from regraft.tokenizer.model import Tokenizer, checked, parts

# a joiner (ZWJ, ZWNJ) behind a mark binds the next letter: Sinhala and Devanagari conjuncts
LETTERS = "\\p{L}(?:\\p{L}|\\p{M}+[\u200c\u200d]?)*"
# what `ByteLevel` applies when `use_regex` is on, with letters widened
_BYTE_LEVEL = rf"'s|'t|'re|'ve|'m|'ll|'d| ?{LETTERS}| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
_MARKED_WORD = regex.compile(r"\p{L}[\p{L}\p{M}\u200c\u200d]*\p{M}[\p{L}\p{M}\u200c\u200d]*")
_MARK = regex.compile(r"\p{M}")
_ROLE = re.compile(r" (?:SMALL|CAPITAL|INDEPENDENT|DEPENDENT|LETTER|VOWEL|CONSONANT|SYLLABLE|LIGATURE|DIGRAPH|UNIFIED|CHARACTER|SIGN)\b.*")


def scripts_cut_at_marks(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, int]:
    """Script ("Sinhala", "Devanagari", ...) -> number of words in `texts` that the pre-tokenizer cuts before or after a mark.

    Looks at what the pre-tokenizer does, not at its pattern. Scripts come most affected first.
    """
    normalizer, pre_tokenizer = tokenizer.backend.normalizer, tokenizer.backend.pre_tokenizer
    if pre_tokenizer is None:
        return {}
    words: Counter[str] = Counter()
    for text in texts:
        plain = normalizer.normalize_str(checked(text)) if normalizer is not None else checked(text)
        words.update(_MARKED_WORD.findall(plain))
    scripts: Counter[str] = Counter()
    for word, count in words.items():
        borders = {start for _, (start, _) in pre_tokenizer.pre_tokenize_str(word)} - {0}
        if any(_MARK.match(word[border]) or _MARK.match(word[border - 1]) for border in borders if border < len(word)):
            scripts[unicode_script(word[0])] += count
    return dict(scripts.most_common())


def unicode_script(letter: str) -> str:
    """The script of a letter, as the first words of its Unicode name say it: "Latin", "Devanagari", "Ol Chiki"."""
    return _ROLE.sub("", unicodedata.name(letter, "UNKNOWN")).title()


def widen_pretokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with marks counted as part of the letter before them.

    Returns `tokenizer` itself if it has no pattern to widen. Raises `TokenizerError` for a byte-level pre-tokenizer that adds a space
    before the text, which cannot be written as a pattern.
    """
    spec = tokenizer.editable()
    spec["pre_tokenizer"] = _widen(copy.deepcopy(spec.get("pre_tokenizer")), tokenizer.where)
    return tokenizer if spec["pre_tokenizer"] == tokenizer.spec.get("pre_tokenizer") else tokenizer.with_spec(spec)


def _widen(part: Any, where: str) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "Sequence":
        return {**part, "pretokenizers": [inner for p in part["pretokenizers"] for inner in _flat(_widen(p, where))]}
    if kind == "Split" and "Regex" in part["pattern"]:
        return {**part, "pattern": {"Regex": widen_pattern(part["pattern"]["Regex"])}}
    if kind == "ByteLevel" and part.get("use_regex", True):
        if part.get("add_prefix_space", True):
            raise TokenizerError(f"{where}: cannot widen a pre-tokenizer that adds a space before the text (add_prefix_space)")
        split = {"type": "Split", "pattern": {"Regex": _BYTE_LEVEL}, "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [split, {**part, "use_regex": False}]}
    return part


def _flat(part: Any) -> list[Any]:
    return list(part["pretokenizers"]) if isinstance(part, dict) and part.get("type") == "Sequence" else [part]


def widen_pattern(pattern: str) -> str:
    r"""Letters in `pattern`, ``\p{L}+`` outside brackets, become a letter with any letters and marks after it."""
    return re.sub(r"(?<!\\)\\p\{L\}\+(?!\])", lambda _: LETTERS, pattern)


def has_pattern(tokenizer: Tokenizer) -> bool:
    """Whether `widen_pretokenizer` would change anything."""
    return any(
        (part.get("type") == "ByteLevel" and part.get("use_regex", True))
        or (part.get("type") == "Split" and widen_pattern(part["pattern"].get("Regex", "")) != part["pattern"].get("Regex", ""))
        for part in parts(tokenizer.spec.get("pre_tokenizer"))
    )


@dataclass(frozen=True)
class SegmentationChange:
    """How many of `texts` and of their words (split at white space) are cut into other ids."""

    texts: int
    texts_changed: int
    words: int
    words_changed: int

    def __str__(self) -> str:
        return f"{self.texts_changed} of {self.texts} texts and {self.words_changed} of {self.words} words are cut differently"


def measure_segmentation(old: Tokenizer, new: Tokenizer, texts: Iterable[str]) -> SegmentationChange:
    """Compare the ids that two tokenizers give to the same texts, and to each word with the space before it."""
    counts, words = [0, 0], Counter[str]()
    for text in texts:
        counts[0] += 1
        counts[1] += old.encode(text) != new.encode(text)
        words.update(f" {word}" for word in text.split())
    distinct = list(words)
    changed = [a != b for a, b in zip(old.encode_batch(distinct), new.encode_batch(distinct), strict=True)]
    return SegmentationChange(
        counts[0], counts[1], sum(words.values()), sum(words[w] for w, moved in zip(distinct, changed, strict=True) if moved)
    )
