"""The one exact-match function: which token of the old tokenizer is the same token as one of the new."""

import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from regraft.vocab.tokenizer.model import Tokenizer

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

Key = tuple[str, bytes, str]


def match_tokens(source: Tokenizer, target: Tokenizer) -> npt.NDArray[np.int64]:
    """The old id of each new token, shape (target.vocab_size,), -1 where `source` has no such token.

    Two tokens match when they stand for the same bytes in the same place of a word: " the" of one that marks spaces is "the" of one that
    marks continuations with `##`, and its "the" is the other's "##the". Special tokens match by role (BOS and CLS, EOS and SEP, PAD, UNK,
    MASK as the companion files name them), then by content. Single bytes match by value, however they are written. Where several old
    tokens are the same, the canonical one is taken (what `source` spells those bytes with), then the lowest id.
    """
    found: dict[Key, list[int]] = {}
    for token, key in _keys(source):
        found.setdefault(key, []).append(token)
    source_ids = np.full(target.vocab_size, -1, dtype=np.int64)
    for token, key in _keys(target):
        candidates = found.get(key)
        if candidates:
            source_ids[token] = candidates[0] if len(candidates) == 1 else _canonical(source, candidates)
    by_role = _special_by_role(source)
    for role, tokens in _special_by_role(target).items():
        for token in tokens:
            if role in by_role and (source_ids[token] < 0 or source_ids[token] not in by_role[role]):
                source_ids[token] = by_role[role][0]
    return source_ids


def _keys(tokenizer: Tokenizer) -> Iterator[tuple[int, Key]]:
    """Token -> (kind, bytes, place in the word) by which it is matched; ids ascend."""
    prefixed = bool(tokenizer.continuing_prefix)
    single = {i: byte for byte, i in tokenizer.byte_ids.items()}
    for token in sorted(tokenizer.pieces):
        surface = tokenizer.surface(token)
        if tokenizer.is_special(token):
            yield token, ("special", surface, "")
        elif token in single:
            # a stand-in for a printable byte is also the one-letter piece; elsewhere only the letter itself is
            byte = single[token]
            yield (
                token,
                ("text", bytes([byte]), "inside") if byte < 0x80 and tokenizer.algorithm == "byte-bpe" else ("byte", bytes([byte]), ""),
            )
        elif prefixed:
            yield token, ("text", surface, "inside" if tokenizer.continues_word(token) else "initial")
        elif surface.startswith(b" ") and surface.strip(b" "):
            yield token, ("text", surface[1:], "initial")
        else:
            yield token, ("text", surface, "inside")


def _canonical(source: Tokenizer, candidates: list[int]) -> int:
    for token in candidates:
        if source.spell(source.surface(token), source.continues_word(token)) == [token]:
            return token
    return candidates[0]


def _special_by_role(tokenizer: Tokenizer) -> dict[str, list[int]]:
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
