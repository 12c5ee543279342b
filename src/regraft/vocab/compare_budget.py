"""How much a comparison can afford: the share of the scored text and of each step with which every method ends in a given time.

Enters: the loaded model, the methods, minutes. Leaves: one share, the same for all methods, so that their rows compare.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from regraft.evaluation import score_text
from regraft.training import Training
from regraft.vocab.initializer import Initializer
from regraft.vocab.job import Job, sample_texts

SAMPLE_BYTES = 4_000
SMALLEST = 0.1
TRAINING_COST = 2.0  # of a token trained on, rows and outer layers, against one that is read; 1.9 measured on SmolLM2-135M
METHOD_SECONDS = 15.0  # to make the rows, lay them out and put the model back, on average


def affordable(
    model: Any, old_tokenizer: Any, job: Job, methods: Sequence[Initializer], training: Training | None, seconds: float
) -> float:
    """The share, at most 1 and at least a tenth, of the scored text and of a training step that lets `methods` end in `seconds`.

    Reading a small sample tells what a token costs here. Methods that learn for minutes of their own have these taken off first, and
    those whose aids are not given cost nothing. A training by the clock is taken off whole; one by epochs is not foreseen.
    """
    token = seconds_per_token(model, old_tokenizer, sample_texts(job.domain, SAMPLE_BYTES))
    able = [method for method in methods if all(has(job, need) for need in method.needs)]
    text = tokens(job, job.domain)
    scored, trained, fixed = text, 0.0, METHOD_SECONDS + token * tokens(job, job.ordinary)
    if training is not None:
        scored = 2 * text
        if training.steps is not None:
            trained = TRAINING_COST * training.steps * training.accumulate * training.batch_size * training.block
        fixed += 60 * (training.minutes or 0.0)
    learning = 60 * sum(float(getattr(method, "minutes", None) or 0.0) for method in able)
    left = seconds - learning - len(able) * fixed - token * text  # the untouched model is read too
    share = left / max(1e-9, len(able) * token * (scored + trained))
    return round(min(1.0, max(SMALLEST, share)), 2)


def shrunk(job: Job, training: Training | None, share: float) -> tuple[Job, Training | None]:
    """The job with `share` of its held-out text, and the training with that share of each step, if it is counted in steps.

    The learning rate falls with the root of the batch, for a gradient of fewer blocks is noisier.
    """
    domain = sample_texts(job.domain, int(share * sum(len(text.encode()) for text in job.domain)))
    if training is not None and training.steps is not None:
        batch = math.ceil(share * training.batch_size)
        training = replace(training, batch_size=batch, lr=training.lr * math.sqrt(batch / training.batch_size))
    return replace(job, domain=domain), training


def seconds_per_token(model: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    score_text(model, tokenizer, texts)  # the first time pays for threads and buffers too
    began = time.perf_counter()
    score = score_text(model, tokenizer, texts)
    return (time.perf_counter() - began) / max(1, score.text_tokens)


def has(job: Job, need: str) -> bool:
    """Whether the user gave what a method needs; text and the model are always there."""
    return need in ("text", "model") or getattr(job.context.aids, need) is not None


def tokens(job: Job, texts: Sequence[str]) -> int:
    """Tokens of `texts` under the new tokenizer."""
    return sum(map(len, job.change.tokenizer.encode_batch(texts)))
