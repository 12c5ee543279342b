"""Writes `weights.json`: what the packages `wechsel` 0.0.4 and `deepfocus` 1.0.1 answer on the small made-up inputs of `cases.py`.

Both want fastText and old data tools, which is why the tests read their answers from a file. Made in an environment that has both:

    python tests/vocab/rivals/make.py
"""

import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import wechsel
from cases import PAIRS, TEMPERATURES, make_vectors, make_words
from deepfocus.focus import focus_additional_token_initialization


class Vocabulary:
    """As much of a tokenizer as wechsel asks for: tokens are their own ids, none is special."""

    def __init__(self, size: int) -> None:
        self.special_tokens_map: dict[str, str] = {}
        self.vocab = {str(i): i for i in range(size)}

    def __len__(self) -> int:
        return len(self.vocab)

    def convert_ids_to_tokens(self, ids):
        return str(ids) if np.isscalar(ids) else [str(i) for i in ids]


class Words:
    """As much of a set of word vectors as wechsel's alignment asks for."""

    def __init__(self, words: dict[str, np.ndarray]) -> None:
        self.words, self.ids = words, {word: i for i, word in enumerate(words)}

    def get_word_id(self, word: str) -> int:
        return self.ids.get(word, -1)

    def get_word_vector(self, word: str) -> np.ndarray:
        return self.words[word]


def wechsel_weights(new: np.ndarray, old: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """With the unit matrix as the old table, rows are the weights."""
    unit = np.eye(len(old))
    rows, _, _ = wechsel.create_target_embeddings(
        old, new, Vocabulary(len(old)), Vocabulary(len(new)), unit, neighbors=k, temperature=temperature, verbose=False
    )
    return rows


def focus_weights(new: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    unit = torch.eye(len(anchors))
    shared = {str(i): SimpleNamespace(auxiliary_embedding=v, source_embedding=unit[i]) for i, v in enumerate(anchors)}
    fresh = {str(i): SimpleNamespace(auxiliary_embedding=v, target=SimpleNamespace(id=i)) for i, v in enumerate(new)}
    return focus_additional_token_initialization(shared, fresh, torch.zeros(len(new), len(anchors))).numpy()


def main() -> None:
    new, old = make_vectors()
    source, target = make_words()
    align = wechsel.WECHSEL.__new__(wechsel.WECHSEL)._compute_align_matrix_from_dictionary(Words(source), Words(target), PAIRS)
    found = {
        "versions": {name: version(name) for name in ("wechsel", "deepfocus")},
        "wechsel": {f"{k} {t}": wechsel_weights(new, old, k, t).tolist() for k, t in TEMPERATURES},
        "wechsel alignment": align.tolist(),
        "deepfocus": focus_weights(new, old).tolist(),
    }
    rounded = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 9))
    Path(__file__).with_name("weights.json").write_text(json.dumps(rounded) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
