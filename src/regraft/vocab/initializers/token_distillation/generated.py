"""Passages that a model writes itself, each beginning with a wanted token in its old spelling: for tokens that no text at hand shows.

Enters: a decoder, the new tokens with how many passages each still wants. Leaves: `Passage`s for distillation. The old spelling is what
was written; the new one has the token in place of its pieces and keeps every other old token, so no text is cut again.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regraft.errors import ParameterError
from regraft.language.model import LanguageModel, inference
from regraft.progress import progress_bar
from regraft.vocab.initializer import Target
from regraft.vocab.initializers.token_distillation.pairing import Passage

Ids = npt.NDArray[np.int64]
BATCH = 64  # passages written at once; all have prompts of one length, so none is padded


def write_passages(
    model: Any, tokenizer: Any, target: Target, wanted: Mapping[int, int], length: int, *, temperature: float, seed: int
) -> Iterator[Passage]:
    """Passages of up to `length` old tokens, `wanted[token]` of each new id; sampled behind the document prefix and the token's old pieces.

    A passage ends where the model ends it, and before the first old token that the new vocabulary lacks. Tokens without a spelling, or
    with one of `length` pieces or more, get none.

    Raises `ParameterError` unless the model is a decoder.
    """
    language_model = LanguageModel(model, tokenizer)
    if language_model.kind != "decoder":
        raise ParameterError(f"{type(model).__name__} does not write text, so it cannot write passages: take them from a corpus")
    new_of_old = {int(old): new for new, old in enumerate(target.source_ids.tolist()) if old >= 0}
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for token, pieces in zip(target.ids.tolist(), target.pieces, strict=True):
        if 0 < len(pieces) < length:
            by_length[len(pieces)] += [(token, pieces)] * wanted.get(token, 0)
    generator = np.random.default_rng(seed)
    with progress_bar("writing passages", total=sum(map(len, by_length.values())), unit="passages") as bar:
        for count, prompts in sorted(by_length.items()):
            for start in range(0, len(prompts), BATCH):
                batch = prompts[start : start + BATCH]
                written = _continue(
                    language_model, [pieces for _, pieces in batch], length - count, temperature, int(generator.integers(2**62))
                )
                for (token, pieces), rest in zip(batch, written, strict=True):
                    known = _known(rest, new_of_old)
                    if len(known):
                        yield _passage(token, pieces, known, new_of_old)
                bar.advance(len(batch))


def _continue(language_model: LanguageModel, pieces: list[list[int]], count: int, temperature: float, seed: int) -> list[list[int]]:
    """Up to `count` tokens drawn behind each spelling, cut before the end of the document."""
    prompts = torch.tensor([[*language_model.prefix, *p] for p in pieces], device=language_model.device)
    ends = {i for i in (language_model.separator, language_model.tokenizer.eos_token_id) if i is not None}
    options = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0, "num_beams": 1, "repetition_penalty": 1.0}
    with inference(language_model.model), torch.random.fork_rng():
        torch.manual_seed(seed)
        out = language_model.model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=count,
            eos_token_id=sorted(ends) or None,
            pad_token_id=min(ends, default=0),
            **options,
        )
    rests: list[list[int]] = out[:, prompts.shape[1] :].tolist()
    return [rest[: next((i for i, token in enumerate(rest) if token in ends), len(rest))] for rest in rests]


def _known(rest: list[int], new_of_old: Mapping[int, int]) -> list[int]:
    """`rest` up to the first token that the new vocabulary lacks."""
    return rest[: next((i for i, token in enumerate(rest) if token not in new_of_old), len(rest))]


def _passage(token: int, pieces: list[int], rest: list[int], new_of_old: Mapping[int, int]) -> Passage:
    first = len(pieces) - 1  # the teacher's position that the merged token answers for
    return Passage(
        old=np.array([*pieces, *rest], dtype=np.int64),
        new=np.array([token, *(new_of_old[i] for i in rest)], dtype=np.int64),
        old_at=np.arange(first, first + 1 + len(rest), dtype=np.int64),
        new_at=np.arange(1 + len(rest), dtype=np.int64),
    )
