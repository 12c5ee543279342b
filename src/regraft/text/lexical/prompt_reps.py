"""PromptReps: a language model asked for one word gives a dense vector (its state) and a sparse one (its logits) in the same pass.

Enters: a checkpoint of a causal model with its head, texts. Leaves: dense rows, and weights over the vocabulary for lexical matching.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix

from regraft.checkpoint import Checkpoint
from regraft.language.loading import quiet

PROMPT = 'This text : "{x}" in one word:"'
Floats = npt.NDArray[np.float32]


def prompt_reps(
    source: str | Path, texts: Sequence[str], *, top: int | None = None, stop_words: Collection[str] = (), batch_size: int = 16
) -> tuple[Floats, Any]:
    """Dense (n, d) and sparse (n, vocabulary) rows: log(1 + ReLU(logit)) at the last token of a prompt (Zhuang et al. 2024, 2404.18424).

    Parameters
    ----------
    top : keep the so many largest weights of a text; by default those of the tokens that occur in it. stop_words : never kept, nor is a
        token without a letter or digit. The prompt's wording and these rules are ours.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Checkpoint.open(source).path
    with quiet():
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.eval()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    kept = torch.tensor([_counts(tokenizer.decode([number]), stop_words) for number in range(model.config.vocab_size)])
    dense, sparse = [], []
    for start in range(0, len(texts), batch_size):
        some = list(texts[start : start + batch_size])
        read = tokenizer([PROMPT.replace("{x}", text) for text in some], padding=True, padding_side="right", return_tensors="pt")
        with torch.inference_mode():
            states = model.base_model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).last_hidden_state
            last = states[torch.arange(len(some)), read["attention_mask"].sum(1) - 1]
            weights = model.get_output_embeddings()(last).relu().log1p() * kept
        if top is None:
            inside = torch.zeros_like(weights, dtype=torch.bool)
            for row, text in enumerate(some):
                inside[row, torch.tensor(_ids(tokenizer, text), dtype=torch.long)] = True
            weights = weights * inside
        else:
            lowest = weights.topk(min(top, weights.shape[1])).values[:, -1:]
            weights = weights * (weights >= lowest)
        dense.append(last.numpy())
        sparse.append(weights.numpy())
    return np.concatenate(dense), csr_matrix(np.concatenate(sparse))


def hybrid(*scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Sum of scores (queries, documents), each at mean 0 and deviation 1 within a query; a constant score adds nothing."""
    found = []
    for one in scores:
        rows = np.asarray(one, dtype=np.float64)
        deviation = rows.std(1, keepdims=True)
        found.append(np.divide(rows - rows.mean(1, keepdims=True), deviation, out=np.zeros_like(rows), where=deviation > 0))
    return np.asarray(np.sum(found, axis=0))


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text, also of its words in lower case and with a space before, so that a word is found wherever it stands."""
    words = text.split()
    pieces = tokenizer([text, *words, *(" " + word.lower() for word in words)], add_special_tokens=False)["input_ids"]
    return sorted({number for piece in pieces for number in piece})


def _counts(token: str, stop_words: Collection[str]) -> bool:
    word = token.strip()
    return any(letter.isalnum() for letter in word) and word.lower() not in stop_words
