"""Which tokens some text can produce. A piece that none can is a row that never trains and never speaks."""

from collections.abc import Iterable, Iterator, Sequence

from regraft.tokenizer.alphabet import is_whole_text
from regraft.tokenizer.model import Tokenizer

_CONTEXTS = (("", ""), (" ", ""), ("", " "), ("x", ""), ("a ", " a"), ("x", "x"), ("1", ""), (".", ""), (" (", ")"), ("\n", ""))
_BATCH = 1000
_COMPLETIONS = 256  # characters tried around a fragment of one


def check_reachability(tokenizer: Tokenizer, ids: Iterable[int], texts: Iterable[str]) -> list[int]:
    """The ids among `ids` that no text was found to produce, ascending.

    Each token is encoded alone and in a few contexts (a space, a letter, punctuation, for a fragment of a character the characters it may
    belong to), and what is still missing is looked for in `texts`. Decoding is not involved: the id itself must appear.
    """
    missing = {i for i in ids if i in tokenizer.pieces}
    for attempt in (
        _alone(tokenizer, missing),
        _in_context(tokenizer, sorted(missing)),
        _behind_letters(tokenizer, sorted(missing)),
        texts,
    ):
        if not missing:
            break
        for batch in _batches(attempt):
            for encoded in tokenizer.encode_batch(batch):
                missing.difference_update(encoded)
            if not missing:
                break
    return sorted(missing)


def _alone(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    return [surface.decode("utf-8") for surface in map(tokenizer.surface, ids) if is_whole_text(surface)]


def _in_context(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[str]:
    for surface in map(tokenizer.surface, ids):
        if is_whole_text(surface):
            text = surface.decode("utf-8")
            yield from (before + text + after for before, after in _CONTEXTS)
        else:
            yield from _completions(surface)


def _behind_letters(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[str]:
    """Pieces that continue a word, behind single characters of the vocabulary."""
    singles = sorted({text for text in tokenizer.model_vocab if len(text) == 1 and text.isalpha()})[:200]
    for surface in map(tokenizer.surface, ids):
        if is_whole_text(surface) and not surface.startswith(b" "):
            text = surface.decode("utf-8")
            yield from (single + text for single in singles)


def _completions(fragment: bytes) -> Iterator[str]:
    """Texts whose UTF-8 holds `fragment`: missing lead and continuation bytes are tried, a limited number of them."""
    tried = 0
    for before in (
        (),
        (0xC3,),
        *((lead, 0xA0 + i) for lead in range(0xE0, 0xF0) for i in range(0, 32, 4)),
        *((b,) for b in range(0xC2, 0xF0)),
    ):
        for missing in range(4):
            for last in range(0x80, 0xC0) if missing else (0,):
                tail = bytes([0x80] * (missing - 1) + [last]) if missing else b""
                candidate = bytes(before) + fragment + tail
                if is_whole_text(candidate):
                    yield candidate.decode("utf-8")
                    tried += 1
                    if tried >= _COMPLETIONS:
                        return


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
