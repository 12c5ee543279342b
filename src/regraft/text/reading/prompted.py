"""A prompt as part of the tokenizer: what stands around a text is added by the post-processor, the clean-up is done by the normalizer.

Both are saved in `tokenizer.json`, so any program that reads the tokenizer applies the prompt; both survive truncation, which the
`tokenizers` library does before it adds them.
"""

from typing import Any

from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Regex
from tokenizers.normalizers import Replace, Sequence
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from regraft.errors import ParameterError

CLEAN_UP = [Replace(Regex(r"(?<=[^.?\"'])\z"), "."), Replace('"', "'"), Replace(Regex(r"\?\z"), ".")]  # as `cleaned` of a template


def put_around(body: Transformer, before: str, after: str, *, clean_up: bool) -> Transformer:
    """Let the tokenizer of `body` set `before` and `after` around each text, behind its own first token and in place of a last one.

    Raises `ParameterError` where the longest input leaves no room for a text.
    """
    given: Any = body.tokenizer
    head, tail = _around(given, before, after)
    if body.max_seq_length is not None and len(head) + len(tail) >= body.max_seq_length:
        raise ParameterError(f"max_tokens={body.max_seq_length}: the prompt alone has {len(head) + len(tail)} tokens")
    backend = given.backend_tokenizer
    if clean_up:
        backend.normalizer = Sequence([*CLEAN_UP, *([backend.normalizer] if backend.normalizer else [])])
    tokens = given.convert_ids_to_tokens
    backend.post_processor = TemplateProcessing(
        single="<before> $A <after>",
        special_tokens=[
            {"id": "<before>", "ids": head, "tokens": tokens(head)},
            {"id": "<after>", "ids": tail, "tokens": tokens(tail)},
        ],
    )
    names = {key: value for key, value in given.special_tokens_map.items() if isinstance(value, str)}
    make: Any = PreTrainedTokenizerFast
    plain = make(tokenizer_object=backend, model_max_length=given.model_max_length, padding_side="right", **names)
    body.processor = plain  # a model's own class would rebuild normalizer and post-processor when it is loaded
    return body


def _around(tokenizer: Any, before: str, after: str) -> tuple[list[int], list[int]]:
    """Ids before and after a text. Those after are cut from a whole, so that no token believes that it begins a text."""
    head = tokenizer(before, return_special_tokens_mask=True)
    ids, special = head["input_ids"], head["special_tokens_mask"]
    while special and special[-1] and len(special) > 1:
        ids, special = ids[:-1], special[:-1]
    text = before + "a."
    whole = tokenizer(text + after, add_special_tokens=False, return_offsets_mapping=True)
    joined = [number for number, (_, end) in zip(whole["input_ids"], whole["offset_mapping"], strict=True) if end > len(text)]
    alone = tokenizer(after, add_special_tokens=False)["input_ids"]
    clean = tokenizer.decode(joined) == after
    return ids, joined if clean else alone
