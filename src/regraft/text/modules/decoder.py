"""A transformer read in one or both directions, that knows which of its tokens are an instruction.

Enters: texts, some with an instruction before them. Leaves: states, and a `pooling_mask` beside the attention mask: instructions are read,
and not pooled.
"""

import re
from typing import Any, Literal

import torch
from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Encoding, processors

from regraft.errors import CheckpointError
from regraft.text.modules.bidirectional import Attention, additive_mask, check

INSTRUCTED = re.compile(r"Instruct: [^\n]*\nQuery: ")


def instructed(task: str, text: str = "") -> str:
    """`text` under the instruction `task`, in the format of the paper (section 3.4); the text itself where there is no task."""
    return f"Instruct: {task}\nQuery: {text}" if task else text


class Decoder(Transformer):
    """`Transformer` with a switch for its attention and a mask for pooling.

    Parameters
    ----------
    attention : "causal" leaves the model as it is; the others are ways of `bidirectional.switch`, tried again when a model is opened.
    compat : "released" counts an instruction's tokens without BOS, as the released code does, so that BOS is left out of the pooling and
        the last token of the instruction is not.

    A text's instruction is the prompt that `encode` was given, or what stands before it in the format of `instructed`. A token belongs to
    the text if it covers any letter of it, so a piece that joins the instruction's last space and the first word is pooled.
    """

    config_keys = [*Transformer.config_keys, "attention", "compat"]  # noqa: RUF012  # as the library declares it

    def __init__(
        self, model_name_or_path: str, *, attention: Attention = "causal", compat: Literal["released"] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(model_name_or_path, **kwargs)
        self.attention, self.compat = attention, compat
        check(self.model, attention)

    def preprocess(self, inputs: Any, prompt: str | None = None, *args: Any, **kwargs: Any) -> dict[str, Any]:
        features: dict[str, Any] = super().preprocess(inputs, prompt, *args, **kwargs)
        texts = [f"{prompt or ''}{text}" for text in inputs] if all(isinstance(text, str) for text in inputs) else []
        mask = features["attention_mask"].clone()
        for row, text in enumerate(texts):
            length = len(prompt) if prompt else _instruction(text)
            if length:
                mask[row] = self._without(text, length, mask[row])
        features["pooling_mask"] = mask
        return features

    def _without(self, text: str, length: int, attended: torch.Tensor) -> torch.Tensor:
        """The mask of one row (T,) without the first `length` letters; the last attended token, EOS, always stays."""
        tokenizer: Any = self.tokenizer
        real = attended.nonzero()[:, 0]
        if self.compat == "released":
            drop = len(tokenizer(text[:length].rstrip(), add_special_tokens=False)["input_ids"])
            kept = torch.arange(len(real)) >= drop
        else:
            found: Encoding = tokenizer(text, truncation=True, max_length=len(real)).encodings[0]
            ends = torch.tensor([end for _, end in found.offsets])
            kept = ends > length
        kept[-1:] = True
        return torch.zeros_like(attended).index_fill(0, real[kept], 1)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        mask, pooled = features["attention_mask"], features.pop("pooling_mask", None)
        if self.attention == "mask":
            features["attention_mask"] = additive_mask(mask, self.model.dtype)
        features = super().forward(features, **kwargs)
        features["attention_mask"] = mask
        return features if pooled is None else features | {"pooling_mask": pooled}


def _instruction(text: str) -> int:
    """Letters of the instruction that a text begins with."""
    found = INSTRUCTED.match(text)
    return found.end() if found else 0


def append_eos(tokenizer: Any) -> None:
    """Let `tokenizer` end every text with EOS by its own post-processing: that comes after truncation, so a long text keeps it.

    What it adds already (BOS) stays. Raises `CheckpointError` for a tokenizer without EOS.
    """
    eos, backend = tokenizer.eos_token, tokenizer.backend_tokenizer
    if eos is None:
        raise CheckpointError("the tokenizer has no end-of-text token: give it one first, or take append_eos=false")
    bare, full = (backend.encode("a", add_special_tokens=special).ids for special in (False, True))
    at = next(start for start in range(len(full)) if full[start : start + len(bare)] == bare)
    before, after = ([backend.id_to_token(one) for one in part] for part in (full[:at], full[at + len(bare) :]))
    if after and after[-1] == eos:
        return
    added = sorted({*before, *after, eos})
    backend.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after, eos], special_tokens=[(token, backend.token_to_id(token)) for token in added]
    )
