"""A text read inside one or more templates: prompts, echoes, placeholders. No other part of the pipeline knows of it.

Enters: texts. Leaves: token states (rows, T, d), with an attention mask of only those tokens that are to be pooled: any pooling of
sentence-transformers that follows sees these alone. `MeanOfRows` makes one vector of several templates' rows.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import torch
from sentence_transformers.base.modules import Module
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor
from transformers import AddedToken

from regraft.errors import ParameterError
from regraft.text.modules.around import Around, Features
from regraft.text.reading.layers import blocks_of

TEXT, PLACEHOLDER, END = "{x}", "{p}", "{eos}"
PLACEHOLDER_TOKEN = "<PST>"
Pooled = Literal["template", "text"]


def cleaned(text: str) -> str:
    """A sentence as the papers of prompting clean it: it ends in a full stop, and holds no double quote."""
    if text and text[-1] not in ".?\"'":
        text += "."
    text = text.replace('"', "'")
    return text[:-1] + "." if text.endswith("?") else text


class Template(Around):
    """Reads each text in each of `templates`, tokenized jointly with what stands around it.

    Parameters
    ----------
    templates : texts with `{x}` once or more, `{eos}` for the end-of-text token, `{p}` for a placeholder (see below).
    pool : "template" pools all but special tokens, the last token being the template's; "text" the last copy of the text, found by the
        offsets of its characters, and the end-of-text token if one was asked for. An instruction belongs to the text.
    clean_up : `cleaned` first.
    start, stop : token prepending. The placeholder's state is overwritten by the last token's before each layer l, start <= l < stop
        (layers counted from 0, so that H(l) is what layer l reads); its embedding is drawn from N(0, 1) with `seed`.

    A text that is too long is cut by itself, so that what stands around it always survives.
    """

    config_file_name = "config_sentence_template.json"
    config_keys: list[str] = ["templates", "pool", "clean_up", "start", "stop", "seed"]  # noqa: RUF012  # as the library declares it

    def __init__(
        self,
        body: Transformer,
        templates: Sequence[str],
        pool: Pooled = "template",
        clean_up: bool = True,
        start: int = 0,
        stop: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(body)
        self.templates, self.pool, self.clean_up = list(templates), pool, clean_up
        self.start, self.stop, self.seed = start, stop, seed
        self.end = str(self.tokenizer.eos_token or "")
        self.read = [one.replace(PLACEHOLDER, PLACEHOLDER_TOKEN).replace(END, self.end) for one in self.templates]
        bad = [one for one in self.templates if TEXT not in one or one.count(PLACEHOLDER) > 1]
        if bad or not self.templates:
            raise ParameterError(f"template {bad[:1]}: a template holds {TEXT}, and {PLACEHOLDER} at most once")
        self.placeholder: Tensor | None = None
        if any(PLACEHOLDER in one for one in self.templates):
            count = len(blocks_of(body.model))
            if not 0 <= start <= stop <= count:
                raise ParameterError(f"start={start}, stop={stop}: 0 <= start <= stop <= {count} layers")
            self.tokenizer.add_tokens([AddedToken(PLACEHOLDER_TOKEN, normalized=False)], special_tokens=True)
            table: Any = body.model.get_input_embeddings()
            width = int(table.embedding_dim)
            self.placeholder = torch.randn(width, generator=torch.Generator().manual_seed(seed))

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Rows in the order text 0 in all templates, text 1 in all templates, and so on."""
        texts = [(prompt or "") + str(text) for text in inputs]
        if self.clean_up:
            texts = [cleaned(text) for text in texts]
        filled = [_filled(template, text, self.end) for text in map(self._cut, texts) for template in self.read]
        rows = self._tokenized([text for text, _ in filled])
        offsets, special = rows.pop("offset_mapping"), rows.pop("special_tokens_mask").bool()
        spans = torch.tensor([span for _, span in filled])
        mask = rows["attention_mask"].bool()
        own = mask & ~special
        if self.pool == "text":
            begin, end = offsets.unbind(-1)
            inside = mask & (begin < spans[:, 1:]) & (end > spans[:, :1]) & (end > begin)
            own = torch.where(inside.any(1, keepdim=True), inside, own)  # an empty text: all of the template
        features: Features = dict(rows) | {"pool_mask": own.long()}
        if self.placeholder is not None:
            at = rows["input_ids"] == self.tokenizer.convert_tokens_to_ids(PLACEHOLDER_TOKEN)
            features["input_ids"] = rows["input_ids"].masked_fill(at, 0)  # no row of the table is read there
            features |= {"placeholders": at, "pool_mask": (own & ~at).long()}
        return features

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Token states (rows, T, d) as `token_embeddings`; `attention_mask` is what is pooled."""
        read = {key: value for key, value in features.items() if key not in ("pool_mask", "placeholders")}
        at = features.get("placeholders")
        with nullcontext() if at is None else self._prepended(at, last_places(read["attention_mask"])):
            out: Features = self.body(read, **kwargs)
        return out | {"attention_mask": features["pool_mask"], "rows_per_text": len(self.templates)}

    @contextmanager
    def _prepended(self, at: Tensor, last: Tensor) -> Iterator[None]:
        """While it lasts, the placeholder at `at` (rows, T) carries the state of the last token, at `last` (rows,), through the layers."""
        row, place = at.nonzero(as_tuple=True)

        def drawn(module: Any, given: Any, states: Tensor) -> Tensor:
            assert self.placeholder is not None
            return states.index_put((row, place), self.placeholder.to(states))

        def carried(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            states = given[0] if given else named["hidden_states"]
            states = states.index_put((row, place), states[row, last[row]])
            return ((states, *given[1:]), named) if given else (given, named | {"hidden_states": states})

        with ExitStack() as hooks:
            hooks.callback(self.body.model.get_input_embeddings().register_forward_hook(drawn).remove)
            for block in blocks_of(self.body.model)[self.start : self.stop]:
                hooks.callback(block.register_forward_pre_hook(carried, with_kwargs=True).remove)
            yield

    def _tokenized(self, texts: list[str]) -> Any:
        """Padded on the right, so that positions count from the first token in every model."""
        asked = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_tensors": "pt"}
        return self.tokenizer(texts, padding=True, padding_side="right", truncation=False, **asked)

    def _cut(self, text: str) -> str:
        """`text` with as many tokens as every template leaves room for."""
        room = self._room()
        if len(text.encode()) <= room:
            return text
        ends = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        return text if len(ends) <= room else text[: ends[room - 1][1]]

    def _room(self) -> int:
        most = self.max_seq_length
        if most is None:
            return sys.maxsize
        left = [(most - len(self.tokenizer(one.replace(TEXT, ""))["input_ids"])) // one.count(TEXT) - 1 for one in self.read]
        if min(left) < 1:
            raise ParameterError(f"max_tokens={most}: nothing of a text fits into the template beside what stands around it")
        return min(left)


class MeanOfRows(Module):
    """One vector of several rows of the same text: their mean (B * k, d) -> (B, d)."""

    config_keys: list[str] = []  # noqa: RUF012  # as the library declares it

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def forward(self, features: Features, **kwargs: Any) -> Features:
        found = features["sentence_embedding"]
        return features | {"sentence_embedding": found.reshape(-1, features["rows_per_text"], found.shape[-1]).mean(1)}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        self.save_config(output_path)


def last_places(mask: Tensor) -> Tensor:
    """Place of the last 1 of each row: (B, T) -> (B,)."""
    return mask.shape[1] - 1 - mask.flip(1).argmax(1)


def _filled(template: str, text: str, end: str) -> tuple[str, tuple[int, int]]:
    """The template with the text in it, and where its last copy begins and ends (with what follows it, where that is the end token)."""
    head, _, tail = template.rpartition(TEXT)
    head = head.replace(TEXT, text)
    whole = head + text + tail
    return whole, (len(head), len(whole) if tail == end else len(head) + len(text))
