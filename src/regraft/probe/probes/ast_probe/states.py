"""Hidden states of code tokens: each token is spelled alone, and its sub-tokens' states are averaged (paper, section 4.3).

Enters: a frozen model, its tokenizer, the tokens of snippets. Leaves: for each layer one packed matrix (T, m1), made once and kept on disk
where a folder is given. The token list is read, not the text: a space stands before every token but a snippet's first.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from regraft.errors import ParameterError
from regraft.language.hidden_states import backbone, hidden_states
from regraft.language.model import inference, max_tokens, special_ids
from regraft.output import atomic_file
from regraft.probe.probes.ast_probe.snippets import Snippet
from regraft.progress import progress_bar

PAPER_LONGEST = 512  # sub-tokens of a snippet


@dataclass(frozen=True)
class Spelled:
    """Sub-tokens of a snippet: their ids, and for each the token that it belongs to."""

    ids: tuple[int, ...]
    owners: tuple[int, ...]


class Speller:
    """How `model` and `tokenizer` read lists of tokens; at most `longest` sub-tokens, special ones included."""

    def __init__(self, model: Any, tokenizer: Any, longest: int = PAPER_LONGEST) -> None:
        self.tokenizer = tokenizer
        self.before, self.after = special_ids(tokenizer)
        self.longest = min(longest, max_tokens(model.config, tokenizer))
        self._blank: dict[int, bool] = {}

    def __call__(self, snippets: Sequence[Snippet]) -> list[Spelled | str]:
        """Sub-tokens of each snippet, or why it cannot be read."""
        words = list(dict.fromkeys(_spaced(token, n) for one in snippets for n, token in enumerate(one.tokens)))
        pieces: dict[str, list[int]] = {}
        if words:
            encoded = self.tokenizer(words, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
            pieces = {word: [piece for piece in ids if not self._is_blank(piece)] for word, ids in zip(words, encoded, strict=True)}
        room = self.longest - len(self.before) - len(self.after)
        return [_spelled([pieces[_spaced(token, n)] for n, token in enumerate(one.tokens)], room) for one in snippets]

    def sequence(self, spelled: Spelled) -> list[int]:
        """What the model reads: the sub-tokens between the tokenizer's own special ids."""
        return [*self.before, *spelled.ids, *self.after]

    def _is_blank(self, piece: int) -> bool:
        if piece not in self._blank:
            self._blank[piece] = not self.tokenizer.decode([piece]).strip()
        return self._blank[piece]


def _spaced(token: str, position: int) -> str:
    return f" {token}" if position else token


def _spelled(pieces: list[list[int]], room: int) -> Spelled | str:
    if not all(pieces):
        return "the tokenizer has no piece for one of its tokens"
    if sum(map(len, pieces)) > room:
        return "longer than the model reads or --max-length allows"
    return Spelled(
        tuple(piece for own in pieces for piece in own), tuple(number for number, own in enumerate(pieces) for _ in own)
    )  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What a model's hidden states are: numbers 0 to `last`, `width` columns, and whether a token's state knows what follows it."""

    last: int
    width: int
    reads_ahead: bool

    @classmethod
    def of(cls, model: Any) -> "Shape":
        """Asked of the model itself, with two sequences that differ in their last token."""
        ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=next(model.parameters()).device)
        with inference(model):
            states = backbone(model)(input_ids=ids, output_hidden_states=True).hidden_states
        one, other = states[-1][:, 0].float()
        return cls(len(states) - 1, len(one), not torch.allclose(one, other, rtol=1e-3, atol=1e-5))

    def layers(self, wanted: Sequence[int] | None = None) -> list[int]:
        """`wanted` as numbers from 0 (the input) up, None for all. Raises `ParameterError` for one that is not there."""
        for layer in wanted or ():
            if not -self.last - 1 <= layer <= self.last:
                raise ParameterError(f"--layers {layer}: the model has hidden states 0 to {self.last}")
        return list(dict.fromkeys(range(self.last + 1) if wanted is None else [layer % (self.last + 1) for layer in wanted]))

    def check_rank(self, rank: int) -> None:
        """Raise `ParameterError` for a rank above the width."""
        if rank > self.width:
            raise ParameterError(f"rank {rank} is above the model's width of {self.width}: at most {self.width} columns can be orthogonal")


def token_states(
    model: Any, speller: Speller, spelled: Sequence[Spelled], layers: Sequence[int], *, folder: Path | None = None, title: str = "the model"
) -> dict[int, torch.Tensor]:
    """For each layer the states (T, m1) of all tokens of all snippets, in float16, or bfloat16 where a value is beyond float16.

    With `folder` the states are kept there, a file a layer, under a key of what was read; whoever gives it makes it the model's own.
    """
    sequences = [speller.sequence(one) for one in spelled]
    key = hashlib.sha256(repr([(one, other.owners) for one, other in zip(sequences, spelled, strict=True)]).encode()).hexdigest()[:16]
    kept = {} if folder is None else {layer: folder / key / f"layer-{layer}.safetensors" for layer in layers}
    found = {layer: states for layer, path in kept.items() if (states := _read(path)) is not None}
    missing = [layer for layer in layers if layer not in found]
    if missing:
        made = _encode(model, speller, sequences, spelled, missing, title)
        for layer, states in made.items():
            if kept:
                with atomic_file(kept[layer]) as partial:
                    save_file({"states": states}, partial)
        found |= made
    return {layer: found[layer] for layer in layers}


def _encode(
    model: Any, speller: Speller, sequences: list[list[int]], spelled: Sequence[Spelled], layers: Sequence[int], title: str
) -> dict[int, torch.Tensor]:
    counts = torch.tensor([one.owners[-1] + 1 for one in spelled])
    starts = (counts.cumsum(0) - counts).tolist()
    store: dict[int, torch.Tensor] = {}
    first = len(speller.before)
    with progress_bar(f"hidden states of {title}", total=sum(map(len, sequences)), unit="sub-tokens") as bar:
        for number, states in hidden_states(model, sequences, layers=layers):
            one = spelled[number]
            owners, size = torch.tensor(one.owners), int(counts[number])
            inner = states[:, first : first + len(owners)]
            sums = torch.zeros(len(layers), size, states.shape[2]).index_add_(1, owners, inner)
            means = sums / owners.bincount(minlength=size)[:, None]
            for layer, rows in zip(layers, means, strict=True):
                if layer not in store:
                    store[layer] = torch.empty(int(counts.sum()), rows.shape[1], dtype=torch.float16)
                if store[layer].dtype == torch.float16 and rows.abs().max() > torch.finfo(torch.float16).max:
                    store[layer] = store[layer].bfloat16()
                store[layer][starts[number] : starts[number] + size] = rows
            bar.advance(len(sequences[number]))
    return store


def _read(path: Path) -> torch.Tensor | None:
    """States that were kept; None where there are none, or the file is damaged."""
    try:
        return load_file(path)["states"] if path.is_file() else None
    except (SafetensorError, KeyError, OSError):
        return None
