"""A whole checkpoint directory with its tokenizer, a corpus for it, and a look at what a run left behind."""

import random

from toys import models as tiny_models


def save_decoder(path, layers=2):
    """A tiny Llama with the byte-level tokenizer of `tiny_models`."""
    tiny_models.llama(layers=layers).save_pretrained(path)
    tiny_models.tokenizer().save_pretrained(path)
    return path


def domain_texts(count=300):
    """Text of made-up words that repeat."""
    draw = random.Random(0)
    words = ["".join(draw.choices(["zor", "quix", "flum", "brü", "дом"], k=draw.randint(2, 3))) for _ in range(60)]
    return [" ".join(draw.choices(words, k=10)) for _ in range(count)]


def snapshot(folder):
    """Every file and folder below `folder`, hidden ones too, with the content of files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }  # fmt: skip
