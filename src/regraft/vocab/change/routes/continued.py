"""Continued training: new pieces are learned on top of the old ones, over text as the old tokenizer cuts it.

Every new merge ranks after all old merges, so text is first cut exactly as before and only then joined further. Hence text that holds no
new piece keeps its old ids, and every new piece is what some text is cut into.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import regex

from regraft.errors import ParameterError, TokenizerError
from regraft.tokenizer.alphabet import WORD_MARKER, from_stand_ins, is_inside_character, is_whole_text
from regraft.tokenizer.model import Tokenizer
from regraft.tokenizer.reachability import check_reachability
from regraft.tokenizer.units import Units, count_units
from regraft.vocab.change.change import Change, kept_ids
from regraft.vocab.change.rewrite import add_pieces, refresh_companions
from regraft.vocab.change.routes.learner import Learner, Step
from regraft.vocab.change.routes.wordpiece import Join, WordPieceLearner

# joining these keeps SentencePiece pieces within one kind of character, as its own trainer does
_LETTERS = regex.compile(r"[\p{L}\p{M}\u200c\u200d'’]+")
_SYMBOLS = regex.compile(r"[^\p{L}\p{M}\p{N}]+")
_NUMBER = regex.compile(r"\p{N}+")
_DIGITS = regex.compile(r"\p{Nd}+")
_LONGEST = 128  # characters of a piece as written in the vocabulary: rows of dashes and spaces would double for ever
_ROUNDS = 5  # of learning again without pieces that turned out unreachable


def extend_continued(tokenizer: Tokenizer, texts: Iterable[str], size: int, min_frequency: int) -> Change:
    """Learn `size` pieces on `texts`. See `extend`."""
    stored = list(texts)
    units = count_units(tokenizer, stored)
    banned: set[str] = set()
    for _ in range(_ROUNDS):
        copied = Units([list(s) for s in units.sequences], units.counts, units.missing, units.cost)
        learner = _learn(tokenizer, copied, size, min_frequency, banned)
        extended = add_pieces(tokenizer, learner)
        new = range(tokenizer.vocab_size, extended.vocab_size)
        unreachable = check_reachability(extended, new, stored)
        dropped = {extended.pieces[i] for i in unreachable}
        if not dropped:
            break
        banned |= dropped
    fresh, notes = refresh_companions(extended)
    return Change(fresh, kept_ids(tokenizer, fresh), unreachable, [*_describe(learner, banned, "merges" in tokenizer.model), *notes])


def _learn(tokenizer: Tokenizer, units: Units, size: int, min_frequency: int, banned: Collection[str]) -> Learner:
    make = WordPieceLearner.for_tokenizer(tokenizer) if tokenizer.algorithm == "wordpiece" else Learner
    learner = make(units, make_join(tokenizer, banned), tokenizer.vocab_size, min_frequency)
    learner.run(size)
    if tokenizer.algorithm in ("wordpiece", "unigram"):
        # no merge list needs the steps in between: a piece that none of the text uses any more makes room for another
        while learner.live() < size:
            before = learner.fresh
            learner.run(before + size - learner.live())
            if learner.fresh == before:
                break
    supported = learner.live() if tokenizer.algorithm in ("wordpiece", "unigram") else learner.fresh
    if supported == 0:
        raise TokenizerError(f"the text has no pair of pieces to join that occurs {min_frequency} times or more: give more text")
    if supported < size:
        raise TokenizerError(f"asked for {size} new pieces, the corpus supports {supported}: use --extend {supported} or more text")
    return learner


def make_join(tokenizer: Tokenizer, banned: Collection[str] = ()) -> Join:
    """The rule for two neighbours: the piece they make, or None where they must stay apart."""
    taken = {*tokenizer.vocab, *tokenizer.model_vocab, *banned}
    apart = {*tokenizer.added, tokenizer.unknown_id}
    prefix, pieces = tokenizer.continuing_prefix, tokenizer.pieces
    accept = {"byte-bpe": _accept_bytes, "wordpiece": _accept_short(tokenizer)}.get(tokenizer.algorithm, _accept_marked)
    most_digits = longest_number(tokenizer)

    def join(learner: Learner, left: int, right: int) -> str | None:
        if left in apart or right in apart:
            return None
        first = pieces[left] if left in pieces else learner.strings[left]
        second = pieces[right] if right in pieces else learner.strings[right]
        piece = first + second.removeprefix(prefix) if prefix else first + second
        if piece in taken or not accept(piece) or len(piece) > _LONGEST:
            return None
        if most_digits is not None and any(len(run) > most_digits for run in _DIGITS.findall(piece)):
            return None
        return piece

    return join


def _accept_bytes(piece: str) -> bool:
    data = from_stand_ins(piece)
    return data is not None and (is_whole_text(data) or is_inside_character(data))


def _accept_marked(piece: str) -> bool:
    body = piece.lstrip(WORD_MARKER)
    return WORD_MARKER not in body and (not body or any(kind.fullmatch(body) for kind in (_LETTERS, _SYMBOLS, _NUMBER)))


def longest_number(tokenizer: Tokenizer) -> int | None:
    """The most digits that a new piece may hold in a row, None for any number.

    A model that learned numbers digit by digit must go on reading them so, whatever the pre-tokenizer in the file would let through: 0
    where no old piece joins a digit to anything, 1 where digits are joined to other characters but never to each other.
    """
    longest = 0
    for token in tokenizer.model_vocab.values():
        if token in tokenizer.added:
            continue
        text = tokenizer.surface(token).decode("utf-8", "ignore")
        runs = _DIGITS.findall(text)
        if runs and len(text) > 1:
            longest = max(longest, *map(len, runs))
            if longest > 1:
                return None
    return longest


def _accept_short(tokenizer: Tokenizer) -> Callable[[str], bool]:
    longest: Any = tokenizer.model.get("max_input_chars_per_word", 100)
    return lambda piece: len(piece) <= longest


def _describe(learner: Learner, banned: Collection[str], merges: bool) -> list[str]:
    notes = []
    steps: list[Step] = [step for step in learner.steps if step.fresh]
    characters = sum(1 for step in steps if step.left < 0)
    unused = sum(1 for step in steps if learner.use[step.symbol] <= 0)
    if characters:
        notes.append(f"{characters} of the new pieces are characters that the vocabulary lacked")
    if unused and merges:
        notes.append(f"{unused} of {len(steps)} new pieces are steps towards longer ones: in this text they never stand alone")
    if banned:
        notes.append(f"{len(banned)} candidate pieces that no text would produce were left out")
    return notes


def check_size(size: int) -> None:
    """Raise `ParameterError` unless `size` is a number of pieces that can be asked for."""
    if size < 1:
        raise ParameterError(f"--extend {size}: ask for 1 or more new pieces")
