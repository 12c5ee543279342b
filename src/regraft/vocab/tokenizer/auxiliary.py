"""Auxiliary merging: pieces of a second tokenizer, trained on the new text alone, are put into the old one before or after its own.

The plain route that users know, kept for comparison. New first means that new merges apply before old ones, which also cuts old text
differently; old first leaves old text alone but lets old merges keep some new pieces from ever forming.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from regraft.errors import TokenizerError
from regraft.progress import step
from regraft.vocab.tokenizer.alphabet import WORD_MARKER, fallback_byte
from regraft.vocab.tokenizer.change import Change, kept_ids
from regraft.vocab.tokenizer.model import Tokenizer, checked
from regraft.vocab.tokenizer.reachability import check_reachability
from regraft.vocab.tokenizer.rewrite import append_merges, pin_added_tokens, read_merges, refresh_companions

AUXILIARY_SIZE = 50_000  # arXiv 2406.11477, section on vocabulary expansion
ROUNDS = 10  # of replacing pieces that the text does not use

Order = Literal["new-first", "old-first"]


@dataclass(frozen=True)
class Auxiliary:
    """Pieces of the auxiliary tokenizer in the order it learned them, and its merges (empty for WordPiece and Unigram)."""

    pieces: list[str]
    merges: list[tuple[str, str]]


def extend_auxiliary(tokenizer: Tokenizer, texts: Iterable[str], size: int, order: Order, min_frequency: int) -> Change:
    """Add `size` pieces of an auxiliary tokenizer trained on `texts`. See `extend`.

    Byte-level BPE walks the auxiliary merges in order and takes what they need (nothing is replaced, because later merges build on
    earlier ones). The others take the first pieces that the vocabulary lacks, drop those that the texts never use and try the next, ten
    times at most.
    """
    stored = [checked(text) for text in texts]
    with step("training an auxiliary tokenizer"):
        auxiliary = train_auxiliary(tokenizer, stored, min_frequency)
    if tokenizer.algorithm == "byte-bpe":
        chosen = _walk_merges(tokenizer, auxiliary, size)
        extended = _build(tokenizer, chosen, auxiliary, order)
    else:
        extended = _replace_unused(tokenizer, auxiliary, size, order, stored)
    new = range(tokenizer.vocab_size, extended.vocab_size)
    unreachable = check_reachability(extended, new, stored)
    fresh, notes = refresh_companions(extended)
    used = _used(extended, stored)
    unused = sum(1 for i in new if i not in used)
    if unused:
        notes.insert(0, f"{unused} of {size} new pieces never occur in the text they were learned from")
    return Change(fresh, kept_ids(tokenizer, fresh), unreachable, notes)


def train_auxiliary(tokenizer: Tokenizer, texts: Sequence[str], min_frequency: int) -> Auxiliary:
    """Train a tokenizer of the same kind on `texts`, with the old one's normalizer and pre-tokenizer."""
    trainee = tokenizers.Tokenizer(_blank_model(tokenizer))
    if tokenizer.backend.normalizer is not None:
        trainee.normalizer = tokenizer.backend.normalizer
    trainee.pre_tokenizer = tokenizer.backend.pre_tokenizer or pre_tokenizers.Split(WORD_MARKER, "merged_with_next")
    if tokenizer.algorithm == "sentencepiece-bpe":
        # nothing cuts a line into words there: the markers must
        trainee.pre_tokenizer = pre_tokenizers.Sequence([trainee.pre_tokenizer, pre_tokenizers.Split(WORD_MARKER, "merged_with_next")])
    trainee.train_from_iterator(texts, _trainer(tokenizer, min_frequency), length=len(texts))
    ids = trainee.get_vocab(with_added_tokens=False)
    trained = Tokenizer.from_spec({**tokenizer.spec, "added_tokens": [], "post_processor": None, "model": _model_spec(trainee)})
    merges = read_merges(trained) if "merges" in trained.model else []
    return Auxiliary(sorted(ids, key=ids.__getitem__), merges)


def _model_spec(trainee: tokenizers.Tokenizer) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(trainee.to_str())["model"]
    return spec


def _blank_model(tokenizer: Tokenizer) -> Any:
    if tokenizer.algorithm == "wordpiece":
        return models.WordPiece(unk_token=tokenizer.model.get("unk_token") or "[UNK]")
    return models.Unigram() if tokenizer.algorithm == "unigram" else models.BPE()


def _trainer(tokenizer: Tokenizer, min_frequency: int) -> Any:
    common: dict[str, Any] = {"vocab_size": AUXILIARY_SIZE, "show_progress": False}
    if tokenizer.algorithm == "unigram":
        return trainers.UnigramTrainer(**common, unk_token="<unk>", special_tokens=["<unk>"])
    if tokenizer.algorithm == "wordpiece":
        unknown = tokenizer.model.get("unk_token") or "[UNK]"
        prefix = tokenizer.continuing_prefix
        return trainers.WordPieceTrainer(**common, min_frequency=min_frequency, special_tokens=[unknown], continuing_subword_prefix=prefix)
    alphabet = pre_tokenizers.ByteLevel.alphabet() if tokenizer.algorithm == "byte-bpe" else []
    return trainers.BpeTrainer(**common, min_frequency=min_frequency, initial_alphabet=alphabet)


def _walk_merges(tokenizer: Tokenizer, auxiliary: Auxiliary, size: int) -> list[str]:
    """The strings that the auxiliary merges need and the vocabulary lacks, in merge order, `size` of them."""
    taken, chosen = {*tokenizer.vocab, *tokenizer.model_vocab}, []
    for a, b in auxiliary.merges:
        for piece in (a, b, a + b):
            if piece not in taken:
                taken.add(piece)
                chosen.append(piece)
                if len(chosen) == size:
                    return chosen
    raise _too_few(size, len(chosen))


def _replace_unused(tokenizer: Tokenizer, auxiliary: Auxiliary, size: int, order: Order, texts: Sequence[str]) -> Tokenizer:
    taken = {*tokenizer.vocab, *tokenizer.model_vocab}
    candidates = [piece for piece in auxiliary.pieces if piece not in taken and fallback_byte(piece) is None and piece != "<unk>"]
    if len(candidates) < size:
        raise _too_few(size, len(candidates))
    chosen, rest = candidates[:size], candidates[size:]
    for _ in range(ROUNDS):
        extended = _build(tokenizer, chosen, auxiliary, order)
        used = _used(extended, texts)
        kept = [piece for piece in chosen if extended.model_vocab[piece] in used]
        if len(kept) == size or not rest:
            break
        chosen, rest = kept + rest[: size - len(kept)], rest[size - len(kept) :]
    return _build(tokenizer, chosen, auxiliary, order)


def _used(tokenizer: Tokenizer, texts: Sequence[str]) -> set[int]:
    found: set[int] = set()
    for start in range(0, len(texts), 1000):
        for ids in tokenizer.encode_batch(texts[start : start + 1000]):
            found.update(ids)
    return found


def _build(tokenizer: Tokenizer, chosen: Sequence[str], auxiliary: Auxiliary, order: Order) -> Tokenizer:
    spec = tokenizer.editable()
    pin_added_tokens(tokenizer, spec)
    vocab = spec["model"]["vocab"]
    if tokenizer.algorithm == "unigram":
        # 0 outscores every trained piece; the lowest old score loses to them
        score = 0.0 if order == "new-first" else min(score for _, score in vocab)
        vocab.extend([piece, score] for piece in chosen)
        return tokenizer.with_spec(spec)
    vocab.update({piece: tokenizer.vocab_size + i for i, piece in enumerate(chosen)})
    if tokenizer.algorithm != "wordpiece":
        _merge(tokenizer, spec, _merges_of(tokenizer, chosen, vocab, auxiliary), order)
    return tokenizer.with_spec(spec)


def _merges_of(tokenizer: Tokenizer, chosen: Sequence[str], vocab: dict[str, int], auxiliary: Auxiliary) -> list[tuple[str, str]]:
    if tokenizer.algorithm == "byte-bpe":
        return [(a, b) for a, b in auxiliary.merges if a in vocab and b in vocab and a + b in vocab]
    # SentencePiece joins any two pieces whose union is a piece
    return [(s[:i], s[i:]) for s in chosen for i in range(1, len(s)) if s[:i] in vocab and s[i:] in vocab]


def _merge(tokenizer: Tokenizer, spec: dict[str, Any], new: Sequence[tuple[str, str]], order: Order) -> None:
    old = read_merges(tokenizer)
    if order == "old-first":
        known = set(old)
        append_merges(spec, [pair for pair in new if pair not in known])
        return
    first = set(new)
    joined = bool(spec["model"]["merges"]) and isinstance(spec["model"]["merges"][0], str)
    spec["model"]["merges"] = [" "] if joined else []
    append_merges(spec, [*new, *(pair for pair in old if pair not in first)])
    if joined:
        spec["model"]["merges"].pop(0)


def _too_few(size: int, available: int) -> TokenizerError:
    return TokenizerError(f"asked for {size} new pieces, the corpus supports {available}: use --extend {available} or more text")
