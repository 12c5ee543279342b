"""What targets are trained on while a hypernetwork is: images with labels, or blocks of tokens.

Enters: `digits`, an .npz file with `images` and `labels`, or texts with a tokenizer. Leaves: `Examples`: config fields that follow from the
data, batches of a step, and a part that is only ever scored.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.corpus import Corpus
from regraft.errors import CorpusError
from regraft.tokenizer import Tokenizer

BLOCK = 64  # tokens of a sequence
HELD_OUT = 0.15


@dataclass(frozen=True)
class Examples:
    """Inputs of one kind. `name` is what the model calls them; `kept` are those that are only scored.

    Attributes
    ----------
    inputs, labels : (n, ...) and (n,); for tokens both are the same (n, block). fields : config fields that the data decide.
    """

    name: str
    inputs: torch.Tensor
    labels: torch.Tensor
    kept: tuple[torch.Tensor, torch.Tensor]
    fields: Mapping[str, Any]
    about: str

    def batch(self, size: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.from_numpy(rng.integers(len(self.inputs), size=size))
        return self.inputs[chosen], self.labels[chosen]


def read_examples(source: str, tokenizer: str | None, block: int = BLOCK) -> Examples:
    """The examples of `source`. Raises `CorpusError`: what is missing, malformed or too little."""
    if source == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = (images - images.mean()) / images.std()
        return of_images(images.reshape(-1, 1, 8, 8), labels, "scikit-learn digits", {"patch_size": 2})
    path = Path(source)
    if path.suffix == ".npz":
        return _read_npz(path)
    if tokenizer is None:
        raise CorpusError(
            f"{source}: to read it as text, name a tokenizer: --tokenizer DIR; images come as .npz with `images` and `labels`"
        )
    return of_texts(Corpus.open([source], held_out=0.0), Tokenizer.from_directory(tokenizer), block)


def of_images(images: Any, labels: Any, about: str, fields: Mapping[str, Any] | None = None) -> Examples:
    """Examples of images (n, channels, side, side) and labels (n,); the last 15 % are kept from training.

    Raises `CorpusError` for other shapes, values that are not finite, one class only.
    """
    images, labels = torch.as_tensor(np.asarray(images, dtype=np.float32)), torch.as_tensor(np.asarray(labels)).long()
    if images.ndim != 4 or images.shape[2] != images.shape[3] or labels.shape != images.shape[:1] or len(images) < 20:
        raise CorpusError(
            f"{about}: images {tuple(images.shape)}, labels {tuple(labels.shape)}: they must be (n, channels, side, side), (n,), n >= 20"
        )
    if not torch.isfinite(images).all() or labels.min() < 0:
        raise CorpusError(f"{about}: an image holds a value that is not finite, or a label is negative: mend the file")
    if len(labels.unique()) < 2:
        raise CorpusError(f"{about}: all labels are the same: give at least two classes")
    kept = max(1, int(HELD_OUT * len(images)))
    found = {"num_channels": images.shape[1], "image_size": images.shape[2], "num_labels": int(labels.max()) + 1}
    return Examples("pixel_values", images[:-kept], labels[:-kept], (images[-kept:], labels[-kept:]), {**found, **(fields or {})}, about)


def of_texts(corpus: Corpus, tokenizer: Tokenizer, block: int) -> Examples:
    """Blocks of `block` tokens. Raises `CorpusError` for too little text."""
    ids = [one for text in corpus.documents() for one in tokenizer.encode(text)]
    blocks = torch.tensor(ids[: len(ids) // block * block]).view(-1, block)
    if len(blocks) < 8:
        raise CorpusError(f"the text has {len(ids)} tokens, {len(blocks)} blocks of {block}: give at least {8 * block} tokens")
    kept = max(1, int(HELD_OUT * len(blocks)))
    fields = {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": block}
    return Examples("input_ids", blocks[:-kept], blocks[:-kept], (blocks[-kept:], blocks[-kept:]), fields, f"{len(ids):,} tokens")


def _read_npz(path: Path) -> Examples:
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except KeyError:
        raise CorpusError(f"{path}: holds no `images` or no `labels`: numpy.savez(path, images=..., labels=...)") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CorpusError(f"{path}: cannot be read as .npz ({error})") from None
    return of_images(images, labels, path.name)
