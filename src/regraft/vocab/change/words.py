"""Whole words and phrases from a list, each made a single token."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from regraft.errors import TokenizerError
from regraft.tokenizer.alphabet import WORD_MARKER
from regraft.tokenizer.model import Tokenizer, checked, parts
from regraft.tokenizer.reachability import check_reachability
from regraft.tokenizer.units import make_splitter
from regraft.vocab.change.change import Change, kept_ids
from regraft.vocab.change.rewrite import EPSILON, append_merges, pin_added_tokens, refresh_companions

Tree = tuple[int, int, int]  # a span of pieces: start, split, end


def add_words(tokenizer: Tokenizer, words: Sequence[str]) -> Change:
    """Make each of `words` a single token where it stands as a word (behind a space).

    A word that the pre-tokenizer leaves whole becomes a piece of the model; in BPE by merges ranked after all old ones, with the pieces in
    between that they need. A phrase, or a word whose merges would touch old pieces, becomes an added token that matches whole words only.
    Words that are one token already are left alone. Raises `TokenizerError` if nothing is left to add.
    """
    wanted = list(dict.fromkeys(word for word in (checked(w).strip() for w in words) if word))
    if not wanted:
        raise TokenizerError("no words to add: the list is empty")
    writer = MergeWriter(tokenizer)
    split = make_splitter(tokenizer)
    phrases, known = [], 0
    for word in wanted:
        if len(tokenizer.encode(f" {word}")) == 1 or len(tokenizer.encode(word)) == 1:
            known += 1
            continue
        string = _model_string(tokenizer, list(split(word if tokenizer.algorithm == "wordpiece" else f" {word}")))
        if string is None or not writer.add(string):
            phrases.append(word)
    if known == len(wanted):
        raise TokenizerError(f"nothing to add: {'the word is' if known == 1 else f'all {known} words are'} a single token already")
    return _finish(tokenizer, writer, phrases, known, wanted)


def _model_string(tokenizer: Tokenizer, strings: list[str]) -> str | None:
    """What the model is given for a word inside a text, or None if it is not one unbroken word."""
    if tokenizer.algorithm in ("sentencepiece-bpe", "unigram"):
        # a model that is given whole lines can join a phrase across its spaces; one that is given words cannot
        body = "".join(strings).lstrip(WORD_MARKER)
        return None if WORD_MARKER in body and len(strings) > 1 else WORD_MARKER + body
    return strings[0] if len(strings) == 1 else None


def _finish(tokenizer: Tokenizer, writer: "MergeWriter", phrases: list[str], known: int, wanted: list[str]) -> Change:
    extended = tokenizer.with_spec(writer.spec)
    phrases, lost, lines = _faithful(tokenizer, extended, phrases)
    extended, more = _add_phrases(extended, phrases)
    fresh, notes = refresh_companions(extended)
    if fresh.vocab_size == tokenizer.vocab_size:
        raise TokenizerError(f"nothing can be added: {lost[0]}")
    if known:
        lines.append(f"{known} of {len(wanted)} words were a single token already")
    if writer.between:
        lines.append(f"{writer.between} more pieces were needed to build {writer.whole} words by merges")
    if phrases:
        named = ", ".join(f"'{p}'" for p in phrases[:3]) + (", ..." if len(phrases) > 3 else "")
        lines.append(f"{len(phrases)} phrases became added tokens, matched as whole words before the model sees the text: {named}")
        if any(fresh.decode(fresh.encode(f"a {p}.")) != tokenizer.decode(tokenizer.encode(f"a {p}.")) for p in phrases):
            lines.append(
                "this tokenizer begins a new word behind an added token: decoded text has a space between a phrase and a full stop"
            )
    new = range(tokenizer.vocab_size, fresh.vocab_size)
    unreachable = check_reachability(fresh, new, [f" {w}" for w in wanted])
    return Change(fresh, kept_ids(tokenizer, fresh), unreachable, [*lines, *more, *lost, *notes])


def _faithful(old: Tokenizer, extended: Tokenizer, phrases: list[str]) -> tuple[list[str], list[str], list[str]]:
    """(phrases that come back as they were written when they are added tokens, a line for each other one, further lines)."""
    if not phrases or old.algorithm == "wordpiece":  # whose decoder changes other text too
        return phrases, [], []
    trial, _ = _add_phrases(extended, phrases)
    kept, lost = [], []
    for phrase in phrases:
        texts = [phrase, f"a {phrase} a", f"{phrase}.", f"a {phrase} {phrase}, a"]
        bad = [text for text in texts if trial.decode(trial.encode(text)) not in (text, old.decode(old.encode(text)))]
        if bad:
            lost.append(f"'{phrase}' is left out: as one token it would be decoded as {trial.decode(trial.encode(bad[0]))!r}")
        else:
            kept.append(phrase)
    return kept, lost, []


class MergeWriter:
    """A spec that grows piece by piece; in BPE by merges behind all old ones."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.spec = tokenizer.editable()
        pin_added_tokens(tokenizer, self.spec)
        self.whole = self.between = 0
        self._next = tokenizer.vocab_size
        self.new: dict[str, int] = {}
        self._merges: dict[tuple[str, str], int] = {}
        self.taken = {*tokenizer.vocab, *tokenizer.model_vocab}

    def add(self, string: str) -> bool:
        """Make the model string one piece; False if only an added token can."""
        if string in self.new:
            return True
        if string in self.taken:
            return False
        if self.tokenizer.algorithm == "wordpiece":
            if len(string) > self.tokenizer.model.get("max_input_chars_per_word", 100):
                return False
            self._name(string)
        elif self.tokenizer.algorithm == "unigram":
            return self._add_scored(string)
        else:
            return self._add_merges(string)
        self.whole += 1
        return True

    @property
    def fresh(self) -> int:
        """How many pieces are new: the length of `new`, ids by piece; `taken` are the pieces that were there before."""
        return len(self.new)

    def needed(self, string: str) -> set[str] | None:
        """In BPE, the new pieces that making `string` one piece takes, itself included; None if it cannot be made one."""
        if string in self.new or string in self.taken:
            return None
        pieces = self._cut(string)
        tree = None if pieces is None else _bracket(pieces, self.taken, self.new)
        if pieces is None or tree is None:
            return None
        return {"".join(pieces[start:end]) for start, _, end in tree} - self.new.keys()

    def _name(self, piece: str, score: float = 0.0) -> None:
        self.new[piece] = self._next
        vocab: Any = self.spec["model"]["vocab"]
        if self.tokenizer.algorithm == "unigram":
            vocab.append([piece, score])
        else:
            vocab[piece] = self._next
        self._next += 1

    def _add_scored(self, string: str) -> bool:
        tokens = self.tokenizer.backend.model.tokenize(string)
        if any(token.id == self.tokenizer.unknown_id for token in tokens):
            return False
        # a margin that grows with the pieces saved, so that a longer word wins over a shorter one in it
        score = sum(self.tokenizer.model["vocab"][token.id][1] for token in tokens)
        self._name(string, score + EPSILON * len(tokens))
        self.whole += 1
        return True

    def _add_merges(self, string: str) -> bool:
        pieces = self._cut(string)
        tree = None if pieces is None else _bracket(pieces, self.taken, self.new)
        if pieces is None or tree is None:
            return False
        fresh: list[tuple[str, str]] = []
        for start, split, end in tree:
            pair = ("".join(pieces[start:split]), "".join(pieces[split:end]))
            if pair not in self._merges:
                self._merges[pair] = len(self._merges)
                fresh.append(pair)
            if "".join(pair) not in self.new:
                self._name("".join(pair))
                self.between += "".join(pair) != string
        append_merges(self.spec, fresh)
        self.whole += 1
        return True

    def _cut(self, string: str) -> list[str] | None:
        """The word's pieces after the old merges and those added so far; None where the model cannot write it in pieces."""
        model = self.tokenizer
        pieces = [model.pieces[token.id] for token in model.backend.model.tokenize(string)]
        if "".join(pieces) != string:  # bytes of byte fallback, unknown characters
            return None
        while True:
            pairs = [(self._merges[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in self._merges]
            if not pairs:
                return pieces
            _, i = min(pairs)
            pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def _bracket(pieces: list[str], taken: set[str], new: dict[str, int]) -> list[Tree] | None:
    """An order of joining `pieces` into one that makes no old piece on the way (an old piece made a new way would cut old text anew).

    Left to right where possible; returned innermost first, or None if every order makes an old piece.
    """
    count = len(pieces)
    best: dict[tuple[int, int], list[Tree]] = {(i, i + 1): [] for i in range(count)}
    for length in range(2, count + 1):
        for start in range(count - length + 1):
            end = start + length
            string = "".join(pieces[start:end])
            if string in taken and string not in new:
                continue
            for split in range(end - 1, start, -1):
                if (start, split) in best and (split, end) in best:
                    best[start, end] = [*best[start, split], *best[split, end], (start, split, end)]
                    break
    return best.get((0, count))


def _add_phrases(tokenizer: Tokenizer, phrases: Iterable[str]) -> tuple[Tokenizer, list[str]]:
    """The tokenizer with `phrases` as added tokens, and a note where that needed more."""
    phrases = [phrase for phrase in phrases if phrase not in tokenizer.vocab]
    if not phrases:
        return tokenizer, []
    spec = tokenizer.editable()
    first, normalized = tokenizer.vocab_size, tokenizer.algorithm in ("wordpiece", "byte-bpe")
    spec["added_tokens"] = list(spec.get("added_tokens") or [])
    lowest = min(score for _, score in tokenizer.model["vocab"]) if tokenizer.algorithm == "unigram" else 0.0
    for number, phrase in enumerate(phrases):
        flags = {"single_word": True, "lstrip": False, "rstrip": False, "normalized": normalized, "special": False}
        spec["added_tokens"].append({"id": first + number, "content": phrase, **flags})
        if tokenizer.algorithm == "unigram":
            spec["model"]["vocab"].append([phrase, lowest])
        else:
            spec["model"]["vocab"][phrase] = first + number
    notes = _mark_once(spec)
    return tokenizer.with_spec(spec), notes


def _mark_once(spec: dict[str, Any]) -> list[str]:
    """Let the mark that begins a text stand at its start alone, and not behind each added token, where it would be a second space.

    Changes `spec` in place; text without added tokens keeps its ids, unless it begins with a space.
    """
    marked = False
    normalizer = spec.get("normalizer")
    steps: list[dict[str, Any]] = [step for step in parts(normalizer) if step.get("type") != "Sequence"]
    if any(step.get("type") == "Prepend" for step in steps) and spec.get("pre_tokenizer") is None:
        others = [
            s for s in steps if s.get("type") != "Prepend" and s != {"type": "Replace", "pattern": {"String": " "}, "content": WORD_MARKER}
        ]
        spec["normalizer"] = {"type": "Sequence", "normalizers": others} if others else None
        spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": WORD_MARKER, "prepend_scheme": "first", "split": False}
        marked = True
    for part in parts(spec.get("pre_tokenizer")):
        if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "always":
            part["prepend_scheme"] = "first"
            marked = True
    return ["the mark of a word's beginning is put at the start of a text alone, no longer behind added tokens"] if marked else []
