"""Auxiliary merging: pieces of a second tokenizer, trained on the new text alone, are put into the old one before or after its own.

The plain route that users know, kept for comparison. New first means that new merges apply before old ones, which also cuts old text
differently; old first leaves old text alone but lets old merges keep some new pieces from ever forming: those are replaced by the next.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from regraft.errors import TokenizerError
from regraft.progress import step
from regraft.tokenizer.alphabet import WORD_MARKER
from regraft.tokenizer.model import Tokenizer, checked
from regraft.tokenizer.reachability import check_reachability
from regraft.tokenizer.units import count_units
from regraft.vocab.change.change import Change, kept_ids
from regraft.vocab.change.rewrite import append_merges, pin_added_tokens, read_merges, refresh_companions

AUXILIARY_SIZE = 50_000  # arXiv 2406.11477, section on vocabulary expansion
ROUNDS = 10  # of replacing dead pieces

Order = Literal["new-first", "old-first"]


@dataclass(frozen=True)
class Auxiliary:
    """What the auxiliary tokenizer offers, best first.

    Attributes
    ----------
    candidates : pieces that go in together, the one they are for at the end: `(a, b, ab)` for a merge, of which a lone `ab` would never
        form, and `(piece,)` where pieces stand by themselves.
    merges : the pairs that BPE joins; empty for WordPiece and Unigram.
    """

    candidates: list[tuple[str, ...]]
    merges: list[tuple[str, str]]


def extend_auxiliary(tokenizer: Tokenizer, texts: Iterable[str], size: int, order: Order, min_frequency: int) -> Change:
    """Add `size` pieces of an auxiliary tokenizer trained on `texts`. See `extend`.

    BPE and WordPiece walk the auxiliary merges in order and take what they need and the vocabulary lacks, then characters by their count;
    Unigram takes pieces by their score. Dead pieces, unless they are steps towards live ones, make room for the next, ten times at most:
    in byte-level BPE those that no text produces, elsewhere those that the texts never use. Where too few are left, fewer are added and
    the notes say so.
    """
    stored = [checked(text) for text in texts]
    with step("training an auxiliary tokenizer"):
        auxiliary = train_auxiliary(tokenizer, stored, min_frequency)
    chosen, dropped = _choose_live(tokenizer, auxiliary, size, order, stored)
    extended = _build(tokenizer, chosen, auxiliary, order)
    new = range(tokenizer.vocab_size, extended.vocab_size)
    unreachable = check_reachability(extended, new, stored)
    fresh, notes = refresh_companions(extended)
    return Change(fresh, kept_ids(tokenizer, fresh), unreachable, [*_describe(extended, new, size, dropped, stored), *notes])


def train_auxiliary(tokenizer: Tokenizer, texts: Sequence[str], min_frequency: int) -> Auxiliary:
    """Train a tokenizer of the same kind on `texts`, with the old one's normalizer and pre-tokenizer."""
    unigram = tokenizer.algorithm == "unigram"
    trainee = tokenizers.Tokenizer(models.Unigram() if unigram else models.BPE())
    if tokenizer.backend.normalizer is not None:
        trainee.normalizer = tokenizer.backend.normalizer
    trainee.pre_tokenizer = tokenizer.backend.pre_tokenizer or pre_tokenizers.Split(WORD_MARKER, "merged_with_next")
    if tokenizer.algorithm == "sentencepiece-bpe":
        # nothing cuts a line into words there: the markers must
        trainee.pre_tokenizer = pre_tokenizers.Sequence([trainee.pre_tokenizer, pre_tokenizers.Split(WORD_MARKER, "merged_with_next")])
    trainee.train_from_iterator(texts, _trainer(tokenizer, min_frequency), length=len(texts))
    model: dict[str, Any] = json.loads(trainee.to_str())["model"]
    if unigram:
        return Auxiliary([(piece,) for piece, _ in model["vocab"] if piece != "<unk>"], [])
    merges = read_merges(Tokenizer.from_spec({**tokenizer.spec, "added_tokens": [], "post_processor": None, "model": model}))
    needed = [(a, b, a + b.removeprefix(tokenizer.continuing_prefix)) for a, b in merges]
    characters = [] if tokenizer.algorithm == "byte-bpe" else _missing_characters(tokenizer, texts)
    if tokenizer.algorithm == "wordpiece":
        # longest match needs no steps towards a piece
        return Auxiliary([(piece,) for pieces in [*needed, characters] for piece in pieces], [])
    return Auxiliary([*needed, *((character,) for character in characters)], merges)


def _trainer(tokenizer: Tokenizer, min_frequency: int) -> Any:
    common: dict[str, Any] = {"vocab_size": AUXILIARY_SIZE, "show_progress": False}
    if tokenizer.algorithm == "unigram":
        return trainers.UnigramTrainer(**common, unk_token="<unk>", special_tokens=["<unk>"])
    if tokenizer.algorithm == "wordpiece":  # what WordPieceTrainer does, but that keeps no merges
        common["continuing_subword_prefix"] = tokenizer.continuing_prefix
    alphabet = pre_tokenizers.ByteLevel.alphabet() if tokenizer.algorithm == "byte-bpe" else []
    return trainers.BpeTrainer(**common, min_frequency=min_frequency, initial_alphabet=alphabet)


def _missing_characters(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """The characters of `texts` that the vocabulary lacks, most frequent first."""
    units, found = count_units(tokenizer, texts), Counter[int]()
    for sequence, count in zip(units.sequences, units.counts, strict=True):
        for symbol in units.missing.keys() & sequence:
            found[symbol] += count * sequence.count(symbol)
    return [units.missing[symbol] for symbol, _ in found.most_common()]


def _choose_live(tokenizer: Tokenizer, auxiliary: Auxiliary, size: int, order: Order, texts: Sequence[str]) -> tuple[list[str], set[str]]:
    """`size` pieces, or as many as there are of which none is dead, and those that were dropped for it."""
    chosen, dropped = _choose(tokenizer, auxiliary, size), set[str]()
    if len(chosen) < size:
        raise _too_few(size, len(chosen))
    for turn in range(ROUNDS):
        extended = _build(tokenizer, chosen, auxiliary, order)
        new = range(tokenizer.vocab_size, extended.vocab_size)
        dead = check_reachability(extended, new, texts) if tokenizer.algorithm == "byte-bpe" else _unused(extended, new, texts)
        gone = _without_steps({extended.pieces[i] for i in dead}, chosen, auxiliary)
        if not gone:
            break
        dropped |= gone
        chosen = _choose(tokenizer, auxiliary, size, dropped) if turn + 1 < ROUNDS else [piece for piece in chosen if piece not in gone]
    if not chosen:
        raise _too_few(size, 0)
    return chosen, dropped


def _choose(tokenizer: Tokenizer, auxiliary: Auxiliary, size: int, dropped: Collection[str] = ()) -> list[str]:
    """The first `size` pieces that the vocabulary lacks, without candidates that need a dropped one."""
    taken = {*tokenizer.vocab, *tokenizer.model_vocab}
    made = {whole for *parts, whole in auxiliary.candidates if parts}
    chosen: list[str] = []
    for *parts, whole in auxiliary.candidates:
        # a part that is made of others and is still missing was passed over itself
        if any(part not in taken and (part in dropped or part in made) for part in parts) or whole in dropped:
            continue
        for piece in (*parts, whole):
            if piece not in taken:
                taken.add(piece)
                chosen.append(piece)
                if len(chosen) == size:
                    return chosen
    return chosen


def _without_steps(dead: set[str], chosen: Sequence[str], auxiliary: Auxiliary) -> set[str]:
    """The pieces among `dead` that no live one is made of."""
    needed = set(chosen) - dead
    for *parts, whole in reversed(auxiliary.candidates):
        if whole in needed:
            needed.update(parts)
    return dead - needed


def _unused(tokenizer: Tokenizer, ids: Iterable[int], texts: Sequence[str]) -> list[int]:
    missing = set(ids)
    for start in range(0, len(texts), 1000):
        for found in tokenizer.encode_batch(texts[start : start + 1000]):
            missing.difference_update(found)
    return sorted(missing)


def _describe(extended: Tokenizer, new: Sequence[int], size: int, dropped: Collection[str], texts: Sequence[str]) -> list[str]:
    notes = []
    why = "no text would produce" if extended.algorithm == "byte-bpe" else "the text never uses"
    if len(new) < size:
        notes.append(f"{len(new)} of the {size} pieces asked for were added: {why} the {len(dropped)} others that were tried")
    elif dropped:
        notes.append(f"{len(dropped)} candidate pieces that {why} were left out")
    if unused := len(_unused(extended, new, texts)):
        notes.append(f"{unused} of {len(new)} new pieces never occur in the text they were learned from")
    return notes


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
    if available == 0:
        return TokenizerError(f"asked for {size} new pieces, the corpus supports none: give more text")
    return TokenizerError(f"asked for {size} new pieces, the corpus supports {available}: use --extend {available} or more text")
