"""Late chunking: a document is read whole, and only then pooled in pieces, so that each piece's vector knows what stands around it.

Enters: an encoder whose first module is a transformer, and a document. Leaves: one vector a piece.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer

from regraft.errors import ParameterError


def late_chunks(
    model: SentenceTransformer, text: str, *, tokens: int = 128, overlap: int = 64
) -> tuple[npt.NDArray[np.float32], list[tuple[int, int]]]:
    """Mean states of pieces of `tokens` tokens each: (pieces, d), and where each begins and ends in `text`, in characters.

    A document longer than the model reads goes through it in windows that share `overlap` tokens, which are there as context only; one
    window is in memory at a time. Guenther et al. 2024 (arXiv 2409.04701), section 3, with their long variant.

    Raises `ParameterError`: a model that is no transformer, `tokens` below 1, an overlap as long as a window.
    """
    body: Any = model[0]
    if not isinstance(body, Transformer):
        raise ParameterError("late chunking needs an encoder whose first module is a stock transformer: try --pooling mean")
    if tokens < 1 or overlap < 0:
        raise ParameterError(f"tokens={tokens}, overlap={overlap}: at least 1, and 0")
    tokenizer: Any = body.tokenizer
    ids, offsets = _tokens(tokenizer, text)
    width = int(body.get_embedding_dimension())
    if not ids:
        return np.zeros((0, width), np.float32), []
    head, tail = _special(tokenizer)
    room = (body.max_seq_length or len(ids) + len(head) + len(tail)) - len(head) - len(tail)
    if room <= overlap < len(ids):
        raise ParameterError(f"overlap={overlap}: a window has {room} tokens; make the overlap smaller")
    pieces = -(-len(ids) // tokens)
    total = torch.zeros(pieces, width)
    done = 0
    while done < len(ids):
        begin = max(0, done - overlap)
        window = ids[begin : begin + room]
        read = {"input_ids": torch.tensor([[*head, *window, *tail]], device=model.device)}
        read["attention_mask"] = torch.ones_like(read["input_ids"])
        with torch.inference_mode():
            states = body(read)["token_embeddings"][0, len(head) : len(head) + len(window)].float().cpu()
        piece_of = torch.arange(done, begin + len(window)) // tokens
        total.index_add_(0, piece_of, states[done - begin :])
        done = begin + len(window)
    counts = torch.bincount(torch.arange(len(ids)) // tokens, minlength=pieces)
    vectors = total / counts[:, None]
    if any(isinstance(module, Normalize) for module in model):
        vectors = torch.nn.functional.normalize(vectors)
    ends = [(offsets[one * tokens][0], offsets[min((one + 1) * tokens, len(ids)) - 1][1]) for one in range(pieces)]
    return np.asarray(vectors.numpy(), dtype=np.float32), ends


def _tokens(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    if not text:
        return [], []
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return found["input_ids"], found["offset_mapping"]


def _special(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text."""
    found = tokenizer("a", return_special_tokens_mask=True)
    own = [number for number, special in enumerate(found["special_tokens_mask"]) if not special]
    return found["input_ids"][: own[0]], found["input_ids"][own[-1] + 1 :]
