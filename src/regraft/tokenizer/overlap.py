"""The one exact-match function: which token of the old tokenizer is the same token as one of the new."""

import json

import numpy as np
import numpy.typing as npt
import regex

from regraft.tokenizer.model import Tokenizer

# what each special token is for; encoders name the same places differently
_ROLES = {
    "bos_token": "begin",
    "cls_token": "begin",
    "eos_token": "end",
    "sep_token": "end",
    "pad_token": "pad",
    "unk_token": "unknown",
    "mask_token": "mask",
}
_ORDER = ("bos_token", "cls_token", "eos_token", "sep_token", "unk_token", "mask_token", "pad_token")

_APART = regex.compile(r"[^\p{L}\p{M}\p{N}]+|[\p{Han}]")

Key = tuple[str, bytes, str]


def match_tokens(source: Tokenizer, target: Tokenizer) -> npt.NDArray[np.int64]:
    """The old id of each new token, shape (target.vocab_size,), -1 where `source` has no such token.

    Two tokens match when they stand for the same bytes in the same place of a word: " the" of one that marks spaces is "the" of one that
    marks continuations with `##`, and its "the" is the other's "##the". Special tokens match by role (BOS and CLS, EOS and SEP, PAD, UNK,
    MASK as the companion files name them), then by content. Single bytes match by value, however they are written. Where several old
    tokens are the same, the canonical one is taken (what `source` spells those bytes with), then the lowest id.
    """
    found: dict[Key, list[int]] = {}
    for token in sorted(source.pieces):
        for key in _keys(source, token):
            found.setdefault(key, []).append(token)
    source_ids = np.full(target.vocab_size, -1, dtype=np.int64)
    for token in sorted(target.pieces):
        candidates = next((found[key] for key in _keys(target, token) if key in found), [])
        if candidates:
            source_ids[token] = candidates[0] if len(candidates) == 1 else _canonical(source, candidates)
    by_role = special_by_role(source)
    for role, tokens in special_by_role(target).items():
        for token in tokens:
            if role in by_role and (source_ids[token] < 0 or source_ids[token] not in by_role[role]):
                source_ids[token] = by_role[role][0]
    return source_ids


def match_ignoring_case(source: Tokenizer, target: Tokenizer, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The old id (the lowest) that differs from each of the new `tokens` only by case, in the same place of a word; -1 where none does.

    Only whole characters have a case: special tokens, single bytes and fragments of characters match nothing here. Shape (len(tokens),).
    """
    found: dict[Key, int] = {}
    for token in sorted(source.pieces):
        for key in _caseless(source, token):
            found.setdefault(key, token)
    matches = (next((found[key] for key in _caseless(target, int(i)) if key in found), -1) for i in tokens)
    return np.fromiter(matches, dtype=np.int64, count=len(tokens))


def _caseless(tokenizer: Tokenizer, token: int) -> list[Key]:
    """The keys of a token's text in lower case; none where it has no text."""
    try:
        return [(kind, data.decode("utf-8").lower().encode(), place) for kind, data, place in _keys(tokenizer, token) if kind == "text"]
    except UnicodeDecodeError:
        return []


def _keys(tokenizer: Tokenizer, token: int) -> list[Key]:
    """(kind, bytes, place in the word) under which a token is known, the closest match first."""
    surface = tokenizer.surface(token)
    if tokenizer.is_special(token):
        return [("special", surface, "")]
    if len(surface) == 1 and tokenizer.byte_ids.get(surface[0]) == token:
        # a byte-level stand-in is also the letter; a byte-fallback token is the letter only where nothing else is
        keys: list[Key] = [("byte", surface, ""), ("text", surface, "inside")]
        return keys[::-1] if tokenizer.algorithm == "byte-bpe" else keys
    if tokenizer.continuing_prefix:
        if tokenizer.continues_word(token):
            return [("text", surface, "inside")]
        # such models set punctuation and ideographs apart, which the others write without a space
        alone = _APART.fullmatch(surface.decode("utf-8", "replace"))
        return [("text", surface, "inside"), ("text", surface, "initial")] if alone else [("text", surface, "initial")]
    if surface.startswith(b" ") and surface.strip(b" "):
        return [("text", surface[1:], "initial")]
    return [("text", surface, "inside")]


def _canonical(source: Tokenizer, candidates: list[int]) -> int:
    for token in candidates:
        if source.spell(source.surface(token), source.continues_word(token)) == [token]:
            return token
    return candidates[0]


def special_by_role(tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Role -> ids, from `special_tokens_map.json` and `tokenizer_config.json`; the first is the one to copy from."""
    named: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            content = json.loads(tokenizer.companions.get(file, b"{}"))
        except ValueError:
            continue
        for key in _ROLES:
            value = content.get(key)
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                named[key] = value
    roles: dict[str, list[int]] = {}
    for key in _ORDER:
        token = tokenizer.vocab.get(named[key]) if key in named else None
        if token is not None:
            roles.setdefault(_ROLES[key], []).append(token)
    return roles
