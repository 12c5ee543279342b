"""Vocabularies of whole words, and what a start is called with, small enough to work out by hand."""

import json
from pathlib import Path

import numpy as np
import torch

from regraft.corpus import Corpus
from regraft.tokenizer import Tokenizer
from regraft.vocab.change import replace
from regraft.vocab.initializer import Aids, Context, Source, Target

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word_tokenizer(words: str, specials: tuple[str, ...] = ("[UNK]", "[CLS]")) -> Tokenizer:
    """WordPiece over white space: the special tokens, `words` in order, then letters inside and outside words."""
    pieces = [*specials, *words.split(), *(f"##{c}" for c in LETTERS), *(c for c in LETTERS if c not in words.split())]
    spec = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": s, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            for i, s in enumerate(specials)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
        },
    }
    return Tokenizer.from_spec(json.loads(json.dumps(spec)))


def situation(old: Tokenizer, new: Tokenizer, *, dim: int = 6, texts: list[str] | None = None, bias: bool = False, **aids):
    """(source, target, context) of replacing `old` by `new`, with a random table of `dim` columns."""
    change = replace(old, new)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(old.vocab_size, dim, generator=generator)
    source = Source(table, old, bias=torch.randn(old.vocab_size, generator=generator) if bias else None)
    target = Target(change.new_ids, change.tokenizer, change.source_ids, old)
    corpus = Corpus.from_texts(texts, held_out=0) if texts else None
    return source, target, Context(corpus=corpus, aids=Aids(**aids))


def row_of(target: Target, word: str) -> int:
    """Which row of the graft belongs to `word`."""
    return target.ids.tolist().index(target.tokenizer.vocab[word])


def write_vectors(path: Path, vectors: dict[str, list[float]]) -> Path:
    """A `.vec` file with its header."""
    lines = [f"{len(vectors)} {len(next(iter(vectors.values())))}"]
    lines += [" ".join([word, *map(str, numbers)]) for word, numbers in vectors.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def cosine(a, b) -> float:
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))
