"""Sequences of symbols: letters of news, the same under a cipher, and a table of pairs to look up whose symbols were never learned from."""

import functools
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regraft.bias.tasks.task import ACCURACY, NATS, Task
from regraft.errors import ParameterError

ALPHABET = " abcdefghijklmnopqrstuvwxyz"


def letters(*, length: int = 128, ciphered: bool = False, seed: int = 0) -> Task:
    """Australian news (Lee's corpus, as gensim brings it along) as 27 symbols: the next of each; what is scored are nats a symbol.

    `ciphered` : held-out texts have every symbol, the space too, exchanged for another, always the same (by `seed`).
    """
    learned, held = (windows(encode(read_news(name)), length) for name in ("lee_background.cor", "lee.cor"))
    if ciphered:
        held = cipher(seed)[held]
    name = "ciphered-letters" if ciphered else "letters"
    return windowed(name, learned, held, len(ALPHABET))


def windowed(name: str, learned: Tensor, held: Tensor, symbols: int) -> Task:
    """The next symbol of each in windows (n, length + 1)."""
    x, y, x_test, y_test = (one.contiguous() for one in (learned[:, :-1], learned[:, 1:], held[:, :-1], held[:, 1:]))
    return Task(name, "symbols", x, y, x_test, y_test, symbols, metric=NATS)


def cipher(seed: int = 0, size: int = len(ALPHABET)) -> Tensor:
    """What each symbol is exchanged for."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(size))


@functools.cache
def read_news(name: str) -> str:
    """A text in small letters and single spaces."""
    import gensim

    text = (Path(gensim.__file__).parent / "test" / "test_data" / name).read_text("latin-1")
    return re.sub(r"[^a-z]+", " ", text.lower()).strip()


def encode(text: str, alphabet: str = ALPHABET) -> Tensor:
    """Places of its characters in `alphabet` (length,). Raises `ParameterError` for one that is not there."""
    place = {one: number for number, one in enumerate(alphabet)}
    if strange := sorted(set(text) - place.keys()):
        raise ParameterError(f"the character {strange[0]!r} is none of the {len(alphabet)} that are known: {alphabet!r}")
    return torch.tensor([place[one] for one in text])


def windows(ids: Tensor, length: int) -> Tensor:
    """(n, length + 1) of them, each beginning where that before has its last symbol."""
    if len(ids) <= length:
        raise ParameterError(f"a text of {len(ids)} symbols: windows of {length} need more")
    return ids.unfold(0, length + 1, length)


def lookup(*, pairs: int = 4, shown: int = 12, symbols: int = 32, examples: int = 4000, held_out: int = 500, seed: int = 0) -> Task:
    """`shown` times a symbol and its partner, of `pairs` pairs drawn for each sequence; then a symbol whose partner is asked for.

    Learned from the first half of the symbols, judged on the other half. In training each partner that was seen before is asked for too.
    Raises `ParameterError` where half of the symbols are too few.
    """
    half = symbols // 2
    if 2 * pairs > half or shown < pairs:
        raise ParameterError(
            f"{pairs} pairs shown {shown} times out of {half} symbols: give twice as many symbols as pairs, shown once each"
        )
    draw = torch.Generator().manual_seed(seed)
    x, y = _episodes(examples, pairs, shown, half, draw)
    x_test, y_test = _episodes(held_out, pairs, shown, half, draw)
    y_test[:, :-1] = -100
    return Task("lookup", "symbols", x, y, x_test + half, torch.where(y_test < 0, y_test, y_test + half), symbols, metric=ACCURACY)


def _episodes(n: int, pairs: int, shown: int, symbols: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """x (n, 2 shown + 1) and y, -100 where nothing is asked."""
    drawn = torch.rand(n, symbols, generator=draw).argsort(1)[:, : 2 * pairs]
    every = torch.rand(n, pairs, generator=draw).argsort(1)  # each pair once, the rest as it comes
    which = torch.cat([every, torch.randint(pairs, (n, shown + 1 - pairs), generator=draw)], 1)
    mixed = torch.rand(n, shown, generator=draw).argsort(1)
    which = torch.cat([which[:, :shown].gather(1, mixed), which[:, shown:]], 1)
    keys, values = drawn.gather(1, which), drawn.gather(1, which + pairs)
    whole = torch.stack([keys, values], 2).flatten(1)  # (n, 2 shown + 2)
    before = (which.unsqueeze(1) == which.unsqueeze(2)).tril(-1).any(2)
    asked = torch.full_like(whole, -100)
    asked[:, ::2] = torch.where(before, values, -100)
    return whole[:, :-1].contiguous(), asked[:, :-1].contiguous()
