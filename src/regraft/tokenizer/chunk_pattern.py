r"""Phrases that a pre-tokenizer leaves whole: its pattern, with the phrases as alternatives before all others.

Enters: a tokenizer with a pattern of the GPT-2 type and phrases made of its pre-tokens. Leaves: a pre-tokenizer that cuts all other text as
before. A phrase matches only where the old pattern would have begun and ended a pre-token: matches follow each other without a gap, and
behind the phrase no kind of character may stand that the old pattern, tried on it, joins to the phrase's end.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from regraft.tokenizer.model import Tokenizer

BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # what `ByteLevel` applies with `use_regex`
# kinds of characters that such patterns tell apart, with some of each to try behind a phrase
KINDS = {
    r"\p{L}": "aZstrvmldжé中ʰ",
    r"\p{M}": "\u0301\u0bbf\u093f",
    r"\p{N}": "07٣²",
    r"\r\n": "\r\n",
    r" ": " ",
    r"\t\f\v\p{Z}": "\t\u00a0\u3000",
    r"\p{P}\p{S}": ".'’-,;:!?\"()[]{}/\\_@#$%^&*+=<>~`|…€",
}
Change = Callable[[str], str]


def takes_phrases(tokenizer: Tokenizer) -> bool:
    """Whether `keep_whole` can be applied: the first thing that cuts is a pattern."""
    return _with_pattern(copy.deepcopy(tokenizer.spec.get("pre_tokenizer")), lambda pattern: pattern) is not None


def keep_whole(tokenizer: Tokenizer, phrases: Sequence[str]) -> Any:
    """The pre-tokenizer of `tokenizer`, as in a spec, that leaves each of `phrases` whole.

    Raises `ValueError` for one that `takes_phrases` says no to.
    """
    branches = alternatives({phrase: not_behind(tokenizer, phrase) for phrase in phrases})
    found = _with_pattern(copy.deepcopy(tokenizer.spec.get("pre_tokenizer")), lambda pattern: f"(?:{branches})|{pattern}")
    if found is None:
        raise ValueError("this pre-tokenizer has no pattern to put phrases before")
    return found


def not_behind(tokenizer: Tokenizer, phrase: str) -> str:
    """The kinds of characters, as in a character class, that the pre-tokenizer does not cut from the end of `phrase`; may be empty."""
    cut = tokenizer.backend.pre_tokenizer.pre_tokenize_str

    def joined(character: str) -> bool:
        # some patterns look one character further
        return any(len(phrase) not in {end for _, (_, end) in cut(phrase + character + more)} for more in ("", "a", "1", " ", "."))

    return "".join(kind for kind, characters in KINDS.items() if any(map(joined, characters)))


def alternatives(phrases: Mapping[str, str]) -> str:
    """A pattern for any of the phrases, the longest that fits, each unless a character of its class follows.

    It is a tree of their characters, so that each is read once, however many phrases there are.
    """
    tree: dict[str, Any] = {}
    for phrase, forbidden in phrases.items():
        place = tree
        for character in phrase:
            place = place.setdefault(character, {})
        place[""] = {"": f"(?![{forbidden}])" if forbidden else ""}
    return _written(tree)


def _written(tree: dict[str, Any]) -> str:
    branches = [re.escape(c) + _written(below) for c, below in sorted(tree.items()) if c]
    if "" in tree:
        branches.append(tree[""][""])  # last: a longer phrase goes first
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _with_pattern(part: Any, change: Change) -> Any:
    """`part` with `change` applied to the pattern that cuts first, or None where something else does."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "Sequence" and part["pretokenizers"]:
        first = _with_pattern(part["pretokenizers"][0], change)
        if first is None:
            return None
        inner = first["pretokenizers"] if first["type"] == "Sequence" else [first]
        return {**part, "pretokenizers": [*inner, *part["pretokenizers"][1:]]}
    if kind == "Split" and "Regex" in part["pattern"] and part["behavior"] == "Isolated" and not part["invert"]:
        return {**part, "pattern": {"Regex": change(part["pattern"]["Regex"])}}
    if kind == "ByteLevel" and part.get("use_regex", True) and not part.get("add_prefix_space", True):
        split = {"type": "Split", "pattern": {"Regex": change(BYTE_LEVEL)}, "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [split, {**part, "use_regex": False}]}
    return None
