"""A tokenizer that never produces some of its tokens, with all ids where they were.

Enters: a tokenizer and ids. Leaves: the same tokenizer, by which the bytes of those tokens are spelled in other pieces: how to say what a
token says without it.
"""

from collections.abc import Collection, Iterable

from regraft.errors import TokenizerError
from regraft.tokenizer.model import Tokenizer
from regraft.vocab.change.rewrite import read_merges

UNLIKELY = -1e6  # a Unigram score that loses against any other way to write the same text
OUT = "\U0010fffdout {}\U0010fffd"  # private-use name of a WordPiece piece that no text is expected to contain


def without(tokenizer: Tokenizer, ids: Iterable[int]) -> Tokenizer:
    """`tokenizer` with `ids` out of use. Pieces that are only built on the way over one of them go out of use with it.

    Raises `TokenizerError` for an id that is no token, a special or added token, or a piece that cannot be spelled without itself (a single
    character or byte).
    """
    chosen = set(ids)
    for token in sorted(chosen):
        if token not in tokenizer.pieces or token in tokenizer.added:
            what = "is not a token" if token not in tokenizer.pieces else f"is {tokenizer.pieces[token]!r}, an added token"
            raise TokenizerError(f"id {token} {what}: name pieces of the model itself")
    changed = _banning(tokenizer, chosen)
    stuck = _stuck(tokenizer, changed, chosen)
    if stuck:
        raise TokenizerError(f"id {stuck[0]} ({tokenizer.pieces[stuck[0]]!r}) cannot be spelled without itself: leave it out")
    return changed


def dispensable(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    """Those of `ids` that `without` accepts together, ascending. Where two need each other, both are left out."""
    chosen = {i for i in ids if i in tokenizer.pieces and i not in tokenizer.added}
    while chosen:
        changed = _banning(tokenizer, chosen)
        stuck = _stuck(tokenizer, changed, chosen)
        if not stuck:
            break
        alone = [i for i in stuck if len(changed.spell(tokenizer.surface(i), tokenizer.continues_word(i))) < 2]
        chosen -= set(alone or stuck)  # with single characters back in use, what needed only them is spelled
    return sorted(chosen)


def _banning(tokenizer: Tokenizer, chosen: Collection[int]) -> Tokenizer:
    spec = tokenizer.editable()
    model = spec["model"]
    if tokenizer.algorithm == "unigram":
        model["vocab"] = [[piece, UNLIKELY if i in chosen else score] for i, (piece, score) in enumerate(model["vocab"])]
    elif tokenizer.algorithm == "wordpiece":
        model["vocab"] = {OUT.format(i) if i in chosen else piece: i for piece, i in model["vocab"].items()}
    else:
        banned = {tokenizer.pieces[i] for i in chosen}
        pairs = zip(model["merges"], read_merges(tokenizer), strict=True)
        model["merges"] = [merge for merge, (a, b) in pairs if a + b.removeprefix(tokenizer.continuing_prefix) not in banned]
        model["ignore_merges"] = False  # or a word that is a token would still be taken whole
    return tokenizer.with_spec(spec)


def _stuck(tokenizer: Tokenizer, changed: Tokenizer, chosen: Collection[int]) -> list[int]:
    """Those of `chosen` that `changed` cannot spell, or only by one of them."""
    banned, stuck = set(chosen), []
    for token in sorted(chosen):
        surface = tokenizer.surface(token)
        spelling = changed.spell(surface, tokenizer.continues_word(token))
        if banned & set(spelling) or b"".join(changed.surface(i) for i in spelling).strip() != surface.strip():
            stuck.append(token)
    return stuck
