"""New words in a pipeline, and out of it again as it was.

A word has n rows for each tower. Its tokens get ids past the vocabulary in a copy of the tokenizer; the encoder is given a piece that it
knows in their place, and the rows are put in behind its table, with their gradient. No table grows, and nothing of the pipeline changes.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from regraft.concepts.host.pipeline import Tower, pieces, spelled, towers
from regraft.errors import ParameterError

Rows = Mapping[str, torch.Tensor]  # by the tower's key: (n, width)


def tokens_of(word: str, count: int) -> list[str]:
    """What diffusers calls the `count` pieces of a word: `<cat> <cat>_1 <cat>_2`."""
    return [word, *(f"{word}_{i}" for i in range(1, count))]


def check_word(pipeline: Any, word: str) -> None:
    """Raises `ParameterError`: empty, with spaces, or a piece that a tokenizer has already."""
    if not word or any(letter.isspace() for letter in word):
        raise ParameterError(f"--word {word!r}: give one word without spaces, such as <my-cat>")
    for tower in towers(pipeline):
        known = tower.tokenizer(pipeline).get_vocab()
        taken = next((one for one in (word, f"{word}</w>") if one in known), None)
        if taken is not None:
            raise ParameterError(
                f"--word {word}: the tokenizer of {tower.part} knows it already: choose another, such as <my-{word.strip('<>')}>"
            )


@contextmanager
def spliced(pipeline: Any, words: Mapping[str, Rows]) -> Iterator[Any]:
    """The pipeline with `words` (rows by word and tower). Raises `ParameterError`: rows of another width, or for some towers only."""
    check_rows(pipeline, words)
    with ExitStack() as stack:
        for tower in towers(pipeline):
            stack.enter_context(_in_tower(pipeline, tower, {word: rows[tower.key] for word, rows in words.items()}))
        yield pipeline


def check_rows(pipeline: Any, words: Mapping[str, Rows]) -> None:
    """Raises `ParameterError` where the rows of a word do not fit the pipeline's towers."""
    asked = {tower.key: tower.width for tower in towers(pipeline)}
    for word, rows in words.items():
        given = {key: int(value.shape[1]) for key, value in rows.items()}
        if given.keys() != asked.keys():
            raise ParameterError(
                f"{word} has rows for {' and '.join(given)}; this pipeline's towers are {' and '.join(asked)}: give it one of its kind"
            )
        if wrong := [key for key in asked if given[key] != asked[key]]:
            key = wrong[0]
            raise ParameterError(
                f"{word} has rows of width {given[key]}; the pipeline's {key} has {asked[key]}: it was learned for another text encoder"
            )


@contextmanager
def _in_tower(pipeline: Any, tower: Tower, words: Mapping[str, torch.Tensor]) -> Iterator[None]:
    part = tower.part.replace("text_encoder", "tokenizer")
    before = getattr(pipeline, part)
    after = copy.deepcopy(before)
    fresh = [token for word, rows in words.items() for token in tokens_of(word, len(rows))]
    after.add_tokens(fresh)
    places = {after.convert_tokens_to_ids(token): row for row, token in enumerate(fresh)}
    stand_in = int(before("a", add_special_tokens=False)["input_ids"][0])
    marked: list[torch.Tensor] = []

    def known_ids(module: Any, args: Any, kwargs: Any) -> Any:
        ids = args[0] if args else kwargs["input_ids"]
        rows = torch.full_like(ids, -1)
        for number, row in places.items():
            rows[ids == number] = row
        marked[:] = [rows]
        shown = torch.where(rows >= 0, stand_in, ids)
        return ((shown, *args[1:]), kwargs) if args else (args, {**kwargs, "input_ids": shown})

    def put_in(module: Any, args: Any, looked_up: torch.Tensor) -> torch.Tensor:
        rows = marked[0]
        if not words or not bool((rows >= 0).any()):
            return looked_up
        table = torch.cat(list(words.values()))  # as the rows are now: they may be learning
        chosen = table.to(looked_up)[rows.clamp(min=0)]
        return torch.where((rows >= 0)[..., None], chosen, looked_up)

    hooks = [
        tower.encoder.register_forward_pre_hook(known_ids, with_kwargs=True),
        tower.encoder.get_input_embeddings().register_forward_hook(put_in),
    ]
    setattr(pipeline, part, after)
    try:
        yield
    finally:
        setattr(pipeline, part, before)
        for hook in hooks:
            hook.remove()


def slots(pipeline: Any, prompt: str, word: str) -> list[int]:
    """Places in a prompt that `word` fills, by the first tower; of a new word all its pieces. Raises `ParameterError`: it is not there."""
    tower = towers(pipeline)[0]
    ids, own = pieces(pipeline, prompt, tower), _pieces_of(pipeline, word, tower)
    starts = [i for i in range(len(ids) - len(own) + 1) if ids[i : i + len(own)] == own]
    if not starts:
        raise ParameterError(f"{prompt!r} does not hold the word {word}, or holds it behind the last place that is read")
    return [start + i for start in starts for i in range(len(own))]


def _pieces_of(pipeline: Any, word: str, tower: Tower) -> list[int]:
    tokenizer = tower.tokenizer(pipeline)
    told = pipeline.maybe_convert_prompt(word, tokenizer) if hasattr(pipeline, "maybe_convert_prompt") else word
    return spelled(pipeline, told, tower)


def rows_of(pipeline: Any, phrase: str, count: int | None = None, *, option: str = "--init") -> dict[str, torch.Tensor]:
    """The input rows of a phrase in each tower (n, width). Raises `ParameterError` where it has not `count` pieces."""
    found = {}
    for tower in towers(pipeline):
        ids = spelled(pipeline, phrase, tower)
        if not ids or (count is not None and len(ids) != count):
            parts = " ".join(part.replace("</w>", "") for part in tower.tokenizer(pipeline).convert_ids_to_tokens(ids))
            many = "a word that is one piece" if count == 1 else f"a phrase of {count} pieces"
            told = f"is {len(ids)} pieces to this tokenizer ({parts})" if ids else "is empty"
            raise ParameterError(f"{option} {phrase!r} {told}: give {many}, or set vectors={len(ids) or 1}")
        found[tower.key] = tower.table[ids].clone()
    return found


def joined(words: Sequence[Mapping[str, Rows]]) -> dict[str, Rows]:
    """Words of several concepts together. Raises `ParameterError` where two have one name."""
    found: dict[str, Rows] = {}
    for one in words:
        if twice := found.keys() & one.keys():
            raise ParameterError(f"two concepts are called {min(twice)}: teach one of them under another --word")
        found |= one
    return found
