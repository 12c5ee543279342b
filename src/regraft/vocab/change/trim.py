"""Trim a vocabulary to what a corpus uses, leaving the way the corpus is cut untouched."""

import json
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from regraft.errors import TokenizerError
from regraft.progress import progress_bar
from regraft.tokenizer.model import Tokenizer
from regraft.vocab.change.change import Change
from regraft.vocab.change.rewrite import read_merges, refresh_companions

_BATCH = 256


def trim(tokenizer: Tokenizer, texts: Iterable[str], keep: Collection[int] = ()) -> Change:
    """Keep the tokens that `texts` use, those with an id in `keep`, added tokens, single bytes, and what merges build the kept ones from.

    Ids close up in old order. WordPiece and Unigram also keep their single characters, so that other text stays writable. Ids move: every
    row has a source.
    """
    used = _used_ids(tokenizer, texts)
    if not used:
        raise TokenizerError("the text has no token to keep: give a corpus that is not empty")
    kept = used | (set(keep) & tokenizer.pieces.keys()) | set(tokenizer.added) | set(tokenizer.byte_ids.values())
    if tokenizer.unknown_id is not None:
        kept.add(tokenizer.unknown_id)
    if tokenizer.algorithm in ("wordpiece", "unigram") or not tokenizer.byte_ids:
        kept |= {i for i in tokenizer.model_vocab.values() if len(_body(tokenizer, i)) == 1}
    if tokenizer.algorithm == "unigram":
        # the price of an unknown character hangs on the lowest score
        kept.add(min(range(len(tokenizer.model["vocab"])), key=lambda i: tokenizer.model["vocab"][i][1]))
    if "merges" in tokenizer.model:
        kept |= merge_closure(tokenizer, kept - set(tokenizer.added))
    order = sorted(kept & set(tokenizer.pieces))
    trimmed, notes = refresh_companions(_renumber(tokenizer, {old: new for new, old in enumerate(order)}))
    notes.insert(0, f"{len(order)} of {len(tokenizer.pieces)} tokens kept, {len(used)} of them used by the text")
    return Change(trimmed, np.array(order, dtype=np.int64), [], notes)


def _used_ids(tokenizer: Tokenizer, texts: Iterable[str]) -> set[int]:
    used: set[int] = set()
    batch: list[str] = []
    with progress_bar("finding the tokens in use", unit="documents") as bar:
        for text in texts:
            batch.append(text)
            bar.advance()
            if len(batch) == _BATCH:
                used.update(*tokenizer.encode_batch(batch))
                batch = []
    return used.union(*tokenizer.encode_batch(batch))


def _body(tokenizer: Tokenizer, token: int) -> str:
    piece = tokenizer.pieces[token]
    return piece.removeprefix(tokenizer.continuing_prefix) if tokenizer.continues_word(token) else piece


def merge_closure(tokenizer: Tokenizer, ids: Iterable[int]) -> set[int]:
    """`ids` and every piece on the way when merges build them from characters."""
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(read_merges(tokenizer))))}
    vocab, prefix, suffix = tokenizer.model_vocab, tokenizer.continuing_prefix, tokenizer.model.get("end_of_word_suffix") or ""
    closure: set[int] = set(ids)
    for token in list(closure):
        parts = _characters(tokenizer.pieces[token], prefix, suffix)
        closure.update(vocab[part] for part in parts if part in vocab)
        while len(parts) > 1:
            pairs = [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]
            if not pairs:
                break
            _, i = min(pairs)
            parts[i : i + 2] = [parts[i] + parts[i + 1].removeprefix(prefix)]
            closure.add(vocab[parts[i]])
    return closure


def _characters(piece: str, prefix: str, suffix: str) -> list[str]:
    """What the merges of a piece start from: its characters, with the prefix and suffix that the model writes."""
    inside = bool(prefix) and piece.startswith(prefix)
    body = piece.removeprefix(prefix) if inside else piece
    ends = bool(suffix) and body.endswith(suffix) and body != suffix
    characters = [c if i == 0 and not inside else prefix + c for i, c in enumerate(body.removesuffix(suffix) if ends else body)]
    if ends:
        characters[-1] += suffix
    return characters


def _renumber(tokenizer: Tokenizer, new_id: dict[int, int]) -> Tokenizer:
    """The tokenizer with only the tokens in `new_id` (old id -> new id), everywhere an id is written."""
    spec = tokenizer.editable()
    model = spec["model"]
    if tokenizer.algorithm == "unigram":
        old = dict(enumerate(model["vocab"]))
        lowest = min(score for _, score in model["vocab"])
        model["vocab"] = [old.get(i, [tokenizer.pieces[i], lowest]) for i in new_id]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_id[model["unk_id"]]
    else:
        model["vocab"] = {tokenizer.pieces[i]: new for i, new in new_id.items()}
    if "merges" in model:
        vocab, prefix = model["vocab"], tokenizer.continuing_prefix
        pairs = zip(model["merges"], read_merges(tokenizer), strict=True)
        model["merges"] = [m for m, (a, b) in pairs if a in vocab and b in vocab and a + b.removeprefix(prefix) in vocab]
    for token in spec.get("added_tokens") or []:
        token["id"] = new_id[token["id"]]
    _renumber_post_processor(spec.get("post_processor"), new_id)
    if spec.get("padding"):
        spec["padding"]["pad_id"] = new_id.get(spec["padding"]["pad_id"], 0)
    return tokenizer.with_spec(spec, _renumber_companions(tokenizer, new_id))


def _renumber_post_processor(part: Any, new_id: dict[int, int]) -> None:
    if not isinstance(part, dict):
        return
    for inner in part.get("processors") or []:
        _renumber_post_processor(inner, new_id)
    for entry in (part.get("special_tokens") or {}).values():
        entry["ids"] = [new_id[i] for i in entry["ids"]]
    for name in ("cls", "sep"):
        if name in part:
            part[name] = [part[name][0], new_id[part[name][1]]]


def _renumber_companions(tokenizer: Tokenizer, new_id: dict[int, int]) -> dict[str, bytes]:
    companions = dict(tokenizer.companions)
    if "tokenizer_config.json" in companions:
        config = json.loads(companions["tokenizer_config.json"])
        if "added_tokens_decoder" in config:
            decoder = config["added_tokens_decoder"].items()
            config["added_tokens_decoder"] = {str(new_id[int(i)]): token for i, token in decoder if int(i) in new_id}
            companions["tokenizer_config.json"] = json.dumps(config, ensure_ascii=False, indent=2).encode("utf-8")
    if "added_tokens.json" in companions:
        added = json.loads(companions["added_tokens.json"])
        kept = {content: new_id[i] for content, i in added.items() if i in new_id}
        companions["added_tokens.json"] = json.dumps(kept, ensure_ascii=False, indent=2).encode("utf-8")
    return companions
