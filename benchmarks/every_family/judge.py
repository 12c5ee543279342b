"""Is the result the model that it should be? Asked of plain `transformers`, never of our own code.

Enters: a source folder and a result folder. Leaves: the first thing that is wrong, in words, or None.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from every_family.toys import DOMAIN, ORDINARY, sentences

MASKED = set(MODEL_FOR_MASKED_LM_MAPPING_NAMES.values())
SAME = 1e-5  # logits of columns that moved are summed in another order
IDS = re.compile(r".*_token_(id|index)s?|suppress_tokens|begin_suppress_tokens|(pad|bos|eos|unk|mask)_index")


class Opened:
    """A folder as `transformers` opens it."""

    def __init__(self, folder: Path, cls: Any) -> None:
        self.folder = folder
        self.model, self.loading = cls.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
        self.model.eval()
        self.tokenizer = open_tokenizer(folder)
        self.vocab: dict[str, int] = self.tokenizer.get_vocab()
        self.tokens = {i: token for token, i in self.vocab.items()}

    def outputs(self, ids: Sequence[int]) -> torch.Tensor:
        """Logits (length, columns), or hidden states."""
        batch = torch.tensor([list(ids)])
        inputs = {"input_ids": batch, "attention_mask": torch.ones_like(batch)}
        torch.manual_seed(0)
        np.random.seed(0)  # some models draw from it
        with torch.no_grad():
            if getattr(self.model.config, "is_encoder_decoder", False):
                found = self.model(**inputs, decoder_input_ids=batch)
            else:
                found = self.model(**inputs)
        first = getattr(found, "logits", None)
        return (found[0] if first is None else first)[0].float()

    def is_causal(self) -> bool:
        """Whether no logits change with the tokens behind them."""
        ids = self.tokenizer(" ".join(ORDINARY), add_special_tokens=False).input_ids[:8]
        return torch.allclose(self.outputs([*ids[:-1], ids[0]])[:-1], self.outputs(ids)[:-1], atol=1e-6)


def open_tokenizer(folder: Path) -> Any:
    """What `AutoTokenizer` makes of a folder, or, where it builds a class of its own that cannot read it, the generic class."""
    try:
        found = AutoTokenizer.from_pretrained(folder)
        if hasattr(found, "backend_tokenizer"):
            return found
    except Exception:  # classes that need files of another kind
        pass
    return PreTrainedTokenizerFast.from_pretrained(folder)


def fault(source: Opened, folder: Path, *, new_text: str | None) -> str | None:
    """What is wrong with the model in `folder`, made from `source`; `new_text` holds new tokens, if there are any."""
    try:
        result = Opened(folder, type(source.model))
    except Exception as error:
        return f"does not load: {_line(error)}"
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if set(map(str, result.loading[what])) - set(map(str, source.loading[what])):
            return f"loads with {what.replace('_', ' ')}: {sorted(map(str, result.loading[what]))[0][:80]}"
    return _tokens_moved(source, result) or _ids_moved(source, result) or (_new_tokens(result, new_text) if new_text else None)


def _tokens_moved(source: Opened, result: Opened) -> str | None:
    """Text whose segmentation did not change gives the outputs of before."""
    shared = [token for token in source.vocab if token in result.vocab]
    ids = [i for text in sentences(ORDINARY, 12, 7) for i in source.tokenizer(text, add_special_tokens=False).input_ids]
    kept = [i for i in ids if source.tokens[i] in result.vocab][:24]
    moved = [result.vocab[source.tokens[i]] for i in kept]
    if len(kept) < 6:
        return "hardly a token is left"
    try:
        before, after = source.outputs(kept), result.outputs(moved)
    except Exception as error:
        return f"does not run: {_line(error)}"
    if before.shape[-1] >= len(source.vocab):
        columns = [(i, result.vocab[token]) for token, i in source.vocab.items() if token in result.vocab and i < before.shape[-1]]
        if max(new for _, new in columns) >= after.shape[-1]:
            return "fewer logits than tokens"
        before, after = before[:, [old for old, _ in columns]], after[:, [new for _, new in columns]]
    if before.shape != after.shape:
        return f"outputs of shape {tuple(after.shape)}, before {tuple(before.shape)}"
    difference = float((before - after).abs().max())
    if not difference <= SAME * max(1.0, float(before.abs().max())):
        return f"old text gives other outputs (by {difference:.2g})"
    texts = sentences(ORDINARY, 5, 11)
    for text in texts:
        old, new = (one.tokenizer.decode(one.tokenizer(text).input_ids, skip_special_tokens=True) for one in (source, result))
        if old != new:
            return f"text comes back changed: {new[:40]!r}"
    return None if len(shared) > 6 else "hardly a token is shared"


def _new_tokens(result: Opened, text: str) -> str | None:
    ids = result.tokenizer(text).input_ids
    if result.tokenizer.decode(ids, skip_special_tokens=True).strip() != text:
        return f"new text comes back changed: {result.tokenizer.decode(ids)[:40]!r}"
    try:
        outputs = result.outputs(ids[:40])
    except Exception as error:
        return f"does not run on new tokens: {_line(error)}"
    return None if bool(torch.isfinite(outputs).all()) else "outputs of new tokens are not finite"


def stored_ids(folder: Path) -> Iterator[tuple[str, int]]:
    """Every id that the JSON files of a model store, by the path of its field."""

    def walk(part: Any, path: str, named: bool) -> Iterator[tuple[str, int]]:
        if isinstance(part, dict):
            for key, value in part.items():
                yield from walk(value, f"{path}.{key}", bool(IDS.fullmatch(key)))
        elif isinstance(part, list):
            for number, value in enumerate(part):
                yield from walk(value, f"{path}[{number}]", named)
        elif named and type(part) is int:
            yield path, part

    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            yield from walk(json.loads((folder / name).read_text("utf-8")), name, False)


def _ids_moved(source: Opened, result: Opened) -> str | None:
    new = dict(stored_ids(result.folder))
    for path, old in stored_ids(source.folder):
        token = source.tokens.get(old)
        if token is not None and token in result.vocab and new.get(path) != result.vocab[token]:
            return f"{path} is {new.get(path)}, not {result.vocab[token]} of {token}"
    return None


def bits_per_byte(opened: Opened, text: str, masked: bool) -> float:
    """What `text` costs by plain forward passes: a decoder behind begin or end of text, a masked model word by word."""
    tokenizer = opened.tokenizer
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded.input_ids, encoded.offset_mapping
    framed = tokenizer("a", return_special_tokens_mask=True)
    mask = framed["special_tokens_mask"]
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    before, after = framed["input_ids"][:first], framed["input_ids"][last:]
    if not masked:
        prefix = before or [tokenizer.eos_token_id]
        logits = opened.outputs([*prefix, *ids])[len(prefix) - 1 : -1].double()
        nats = torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum")
        return float(nats) / math.log(2) / len(text.encode())
    words = [text[:end].count(" ") for _, end in offsets]
    nats = 0.0
    for place, target in enumerate(ids):
        row = [tokenizer.mask_token_id if at >= place and words[at] == words[place] else i for at, i in enumerate(ids)]
        logits = opened.outputs([*before, *row, *after])[len(before) + place].double()
        nats += float(torch.nn.functional.cross_entropy(logits, torch.tensor(target)))
    return nats / math.log(2) / len(text.encode())


def new_text() -> str:
    return " ".join(sentences(DOMAIN, 1, 5))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:140]}"


def model_class(name: str) -> Any:
    return getattr(transformers, name)
