"""A language model as two halves, backbone and head, with what its tokenizer puts around a document.

Enters: a `transformers` model with a vocabulary head and its tokenizer. Leaves: hidden states for a batch, and logits for any selection of
those hidden states. Scoring and training need logits at few positions at a time: over a vocabulary of 100k, a batch's logits are the
largest tensor of all.
"""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from regraft.errors import EvaluationError
from regraft.language.split import backbone_of, inference, replaced_forward, run_head, short_attention, split_of
from regraft.language.tables import head_of

__all__ = ["LanguageModel", "inference", "kind_of", "remembered_states", "replaced_forward", "short_attention", "table_rows"]

Kind = Literal["decoder", "masked"]
SEPARATOR = "<|endoftext|>"  # what models without a BOS were pre-trained to see between documents, also where chat tuning renamed EOS
LOGITS_BYTES = 30 * 2**20  # logits held at once; above 32 MiB the C library unmaps what is freed, and scoring is 12 % slower
KEPT_BYTES = 2**30  # of hidden states that are kept to be read again
PROBE = "the cat sat on the mat and ran"
UNLIMITED = 10**6  # tokenizers write "no limit" as a huge number


class LanguageModel:
    """`model` split where the vocabulary starts.

    The head is run by the model's own `forward` on hidden states of our choosing, so that whatever an architecture does between its last
    hidden state and its logits (a transform, a soft cap, a scale, a bias) is done, for every architecture. Where to cut is found by trying:
    logits of a few positions must be those of one plain forward pass (`regraft.language.split`). A model that cannot be cut is run whole;
    its "hidden states" are then its logits.

    Raises `EvaluationError` if the model has no vocabulary head, is an encoder-decoder, does not run on text alone, or should predict the
    next token and reads it.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.kind = kind_of(model)
        self.rows = int(model.get_input_embeddings().weight.shape[0])
        chosen = [i for i in self._ids([PROBE])[0] if i < self.rows][:6]
        split = split_of(model, chosen if len(chosen) > 2 else list(range(min(6, self.rows))))
        self.backbone: nn.Module | None = None if split.path is None else model.get_submodule(split.path)
        if self.kind == "decoder" and not split.causal:
            if type(model).__name__ not in MASKED:
                raise EvaluationError(
                    f"{type(model).__name__} reads the tokens that it would have to predict (config.json makes it no decoder: is_decoder, "
                    "or its like, is false), so text has no likelihood under it: set that field, or compare tokens per byte"
                )
            self.kind = "masked"
        self._output_type: type = BaseModelOutputWithPastAndCrossAttentions

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def head(self) -> nn.Module:
        """The module that maps hidden states to logits. Raises `EvaluationError` if it is a function of the input table, and no module."""
        head: nn.Module | None = head_of(self.model)
        if head is None:
            raise EvaluationError(f"{type(self.model).__name__} computes its logits from the input table itself: it has no head of its own")
        return head

    @property
    def vocab_rows(self) -> int:
        """Columns of the logits, padding included."""
        head = head_of(self.model)
        return self.rows if head is None else table_rows(head)

    @cached_property
    def vocabulary(self) -> npt.NDArray[np.int64]:
        """Ids that the tokenizer knows and the model has rows for, ascending; table rows beside them are padding."""
        return np.array(sorted(i for i in set(self.tokenizer.get_vocab().values()) if i < self.rows), dtype=np.int64)

    @cached_property
    def max_tokens(self) -> int:
        """Longest sequence the model takes, special tokens included."""
        return max_tokens(self.model.config, self.tokenizer)

    @cached_property
    def added(self) -> tuple[list[int], list[int]]:
        """Special ids that the tokenizer itself puts before and after a text."""
        return special_ids(self.tokenizer)

    @cached_property
    def prefix(self) -> list[int]:
        """What a document is conditioned on and is never scored: BOS where the tokenizer adds it, else the document separator, else none.

        The separator is ``<|endoftext|>`` if the vocabulary has it, else EOS, else BOS. Measured on SmolLM2-135M-Instruct (adds no BOS;
        its EOS is a chat marker) in bits per byte of Wikipedia: 1.296 after ``<|endoftext|>``, 1.332 after its BOS or EOS, 1.319 after
        nothing with each document's first token left out.
        """
        before, _ = self.added
        if before:
            return before
        separator = self.separator
        return [] if separator is None else [separator]

    @cached_property
    def separator(self) -> int | None:
        """The id that stands between documents, or None."""
        added = self.tokenizer.get_added_vocab()
        if SEPARATOR in added:
            return int(added[SEPARATOR])
        for candidate in (self.tokenizer.eos_token_id, self.tokenizer.sep_token_id, self.tokenizer.bos_token_id):
            if candidate is not None:
                return int(candidate)
        return None

    @cached_property
    def cache_name(self) -> str:
        """What `forward` and its output call the cache of a decoder; `transformers` renamed it."""
        return "cache" if "cache" in inspect.signature((self.backbone or self.model).forward).parameters else "past_key_values"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens. Raises `EvaluationError` for an id that the model has no row for."""
        found = self._ids(texts)
        highest = max((max(ids, default=-1) for ids in found), default=-1)
        if highest >= self.rows:
            raise EvaluationError(
                f"the text holds token {highest} ({self.tokenizer.convert_ids_to_tokens(highest)}), but the model has {self.rows} rows: "
                "tokenizer and model do not belong together"
            )
        return found

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def hidden(self, ids: torch.Tensor, mask: torch.Tensor | None = None, layer: int = -1) -> torch.Tensor:
        """Hidden states, shape (batch, length, d), of `ids` (batch, length), padded on the right where `mask` is 0.

        `layer` counts as in ``hidden_states`` of `transformers`: 0 is the input, -1 what the head reads. Raises `EvaluationError` for one
        that the model does not have.
        """
        # a model that is run whole is run plainly: without its cache a class may compute something else
        options = {"use_cache": False} if self.kind == "decoder" and self.backbone is not None else {}
        if layer != -1:
            options["output_hidden_states"] = True
        with short_attention(self.model, ids):
            output = (self.backbone or self.model)(input_ids=ids, attention_mask=mask, **options)
        if layer == -1 and self.backbone is None:
            whole: torch.Tensor = output.logits
            return whole
        if layer == -1:
            self._output_type = type(output)
            states: torch.Tensor = output.last_hidden_state
            return states
        every: tuple[torch.Tensor, ...] = output.hidden_states
        if not -len(every) <= layer < len(every):
            raise EvaluationError(f"layer {layer}: {type(self.model).__name__} has hidden states 0 to {len(every) - 1}")
        return every[layer]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits, shape (n, vocabulary rows), of hidden states (n, d)."""
        return states if self.backbone is None else run_head(self.model, self.backbone, states, self._output_type)

    def need_backbone(self, what: str) -> nn.Module:
        """The backbone. Raises `EvaluationError` for a model that can only be run whole, in which `what` has no hidden states."""
        if self.backbone is None:
            raise EvaluationError(f"{type(self.model).__name__} can only be run whole, so {what} has no hidden states to work on")
        return self.backbone

    def bits(self, states: torch.Tensor, targets: torch.Tensor) -> npt.NDArray[np.float64]:
        """Bits of `targets` (n,) given the hidden states (n, d) that predict them, in float32, block by block."""
        block = self.block()
        nats = [
            cross_entropy(self.logits(states[start : start + block]).float(), targets[start : start + block], reduction="none")
            for start in range(0, len(targets), block)
        ]
        return torch.cat(nats).double().cpu().numpy() / math.log(2)

    def block(self, limit: int = LOGITS_BYTES) -> int:
        """How many positions have float32 logits that fit in `limit` bytes."""
        return max(1, limit // (4 * self.vocab_rows))


def max_tokens(config: Any, tokenizer: Any) -> int:
    """Longest sequence that a model of this configuration takes, special tokens included, as far as it and its tokenizer say."""
    text = config.get_text_config()
    limits = [getattr(text, name, None) for name in ("max_position_embeddings", "n_positions")]
    limit = min((int(n) for n in limits if n), default=UNLIMITED)
    if "roberta" in text.model_type:  # RoBERTa's positions start after its padding id
        limit -= int(text.pad_token_id) + 1
    return min(limit, int(min(tokenizer.model_max_length, UNLIMITED)))


def special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special ids that `tokenizer` itself puts before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, mask = encoded["input_ids"], encoded["special_tokens_mask"]
    if 0 not in mask:
        return [], []
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    return list(ids[:first]), list(ids[last:])


def table_rows(module: Any) -> int:
    """Rows of the table of an embedding or a head."""
    return int(module.weight.shape[0])


@contextmanager
def remembered_states(model: Any, kept: dict[bytes, Any]) -> Iterator[None]:
    """Inside the context the backbone answers a batch that it has read before with what it then said, from `kept`.

    For models that compute the same states for those batches, whatever their heads do; that is the caller's to know. Up to a gigabyte is
    kept.
    """
    backbone = backbone_of(model)
    if backbone is None:
        yield
        return
    read = backbone.forward

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any) -> Any:
        parts = [tensor.cpu().numpy() for tensor in (input_ids, attention_mask) if tensor is not None]
        key = repr((options, [part.shape for part in parts])).encode() + b"".join(part.tobytes() for part in parts)
        if key in kept:
            return kept[key]
        output = read(input_ids=input_ids, attention_mask=attention_mask, **options)
        states = output.last_hidden_state
        if sum(states.nbytes for states in _states(kept)) + states.nbytes <= KEPT_BYTES:
            kept[key] = output
        return output

    with replaced_forward(backbone, forward):
        yield


def _states(kept: dict[bytes, Any]) -> Iterator[torch.Tensor]:
    return (output.last_hidden_state for output in kept.values())


def kind_of(model: Any) -> Kind:
    """Whether `model`, by its class, predicts the next token or masked ones.

    Raises `EvaluationError` if it does neither, and says what is possible.
    """
    names = {cls.__name__ for cls in type(model).__mro__}
    if getattr(model.config, "is_encoder_decoder", False):
        name = type(model).__name__
        raise EvaluationError(f"{name} is an encoder-decoder: text alone has no likelihood under it; compare tokens per byte instead")
    if names & CAUSAL:
        return "decoder"
    if names & MASKED:
        return "masked"
    raise EvaluationError(
        f"{type(model).__name__} has no language-model head, so text has no likelihood under it: "
        "compare tokens per byte and hidden states, or load a checkpoint with a causal or masked LM head"
    )


def _class_names(mapping: Mapping[str, Any]) -> set[str]:
    return {name for names in mapping.values() for name in ([names] if isinstance(names, str) else names)}


# those that read images write text as decoders do
CAUSAL = _class_names(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) | _class_names(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
MASKED = _class_names(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
