"""Writing new pieces into a spec, and keeping the companion files in step with it."""

import json
from collections.abc import Sequence
from typing import Any

from regraft.tokenizer.files import BINARY_FILES
from regraft.tokenizer.model import Tokenizer
from regraft.vocab.change.routes.learner import Learner

# a new Unigram piece outscores the two it joins by this much: far below any gap between trained scores, far above rounding
EPSILON = 1e-9


def pin_added_tokens(tokenizer: Tokenizer, spec: dict[str, Any]) -> None:
    """Give every added token its entry in the model's vocabulary.

    The library numbers added tokens that the model lacks from the size of the model's vocabulary, so they would move when it grows.
    """
    vocab = spec["model"]["vocab"]
    if tokenizer.algorithm != "unigram":
        vocab.update({token.content: i for i, token in tokenizer.added.items()})
        return
    lowest = min((score for _, score in vocab), default=0.0)
    for i in range(len(vocab), tokenizer.vocab_size):
        # an id that nothing holds gets a private-use name that no text is expected to contain
        vocab.append([tokenizer.pieces.get(i, f"\U0010fffdhole {i}\U0010fffd"), lowest])


def add_pieces(tokenizer: Tokenizer, learner: Learner) -> Tokenizer:
    """The tokenizer with what `learner` learned; new ids follow the highest old id in the order of learning.

    WordPiece and Unigram pieces that the learner's text no longer uses are left out; merges need all of theirs.
    """
    spec = tokenizer.editable()
    pin_added_tokens(tokenizer, spec)
    if tokenizer.algorithm == "unigram":
        _add_scored(tokenizer, learner, spec["model"]["vocab"])
    elif tokenizer.algorithm == "wordpiece":
        pieces = [step.piece for step in learner.steps if step.fresh and learner.lives(step.symbol)]
        spec["model"]["vocab"].update({piece: tokenizer.vocab_size + i for i, piece in enumerate(pieces)})
    else:
        pieces = [step.piece for step in learner.steps if step.fresh]
        spec["model"]["vocab"].update({piece: tokenizer.vocab_size + i for i, piece in enumerate(pieces)})
        name = {**tokenizer.pieces, **learner.strings}
        append_merges(spec, [(name[step.left], name[step.right]) for step in learner.steps if step.left >= 0])
    return tokenizer.with_spec(spec)


def append_merges(spec: dict[str, Any], merges: Sequence[tuple[str, str]]) -> None:
    """Add merges after all old ones, in the form ("a b" or ["a", "b"]) that the file has."""
    old = spec["model"]["merges"]
    joined = bool(old) and isinstance(old[0], str)
    old.extend(f"{a} {b}" if joined else [a, b] for a, b in merges)


def read_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The merges of a BPE model as pairs, best first."""
    pairs = []
    for merge in tokenizer.model["merges"]:
        a, b = merge.split(" ", 1) if isinstance(merge, str) else merge
        pairs.append((a, b))
    return pairs


def _add_scored(tokenizer: Tokenizer, learner: Learner, vocab: list[list[Any]]) -> None:
    scores: dict[int, float] = {i: score for i, (_, score) in enumerate(vocab)}
    lowest = min(scores.values(), default=0.0)
    total = len(learner.steps)
    for rank, step in enumerate(step for step in learner.steps if step.fresh):
        # earlier pieces outscore later ones, so that ties fall as they did while learning
        margin = EPSILON * (2 - rank / total)
        scores[step.symbol] = lowest if step.left < 0 else scores[step.left] + scores[step.right] + margin
        if learner.lives(step.symbol):
            vocab.append([step.piece, scores[step.symbol]])


def refresh_companions(new: Tokenizer) -> tuple[Tokenizer, list[str]]:
    """`new` with companions that agree with its spec, and notes about what could not be kept."""
    companions, notes = dict(new.companions), []
    if "vocab.txt" in companions:
        names = [new.pieces.get(i, f"[unused_hole_{i}]") for i in range(new.vocab_size)]
        companions["vocab.txt"] = "".join(f"{name}\n" for name in names).encode("utf-8")
    if "vocab.json" in companions and new.algorithm != "unigram":
        companions["vocab.json"] = json.dumps(new.model_vocab, ensure_ascii=False).encode("utf-8")
    if "merges.txt" in companions and "merges" in new.model:
        lines = [f"{a} {b}" for a, b in read_merges(new)]
        companions["merges.txt"] = "\n".join(["#version: 0.2", *lines, ""]).encode("utf-8")
    for name in BINARY_FILES:
        if companions.pop(name, None) is not None:
            notes.append(f"{name} holds the old vocabulary and was left out; tokenizer.json is complete without it")
    return new.with_spec(new.spec, companions), notes
