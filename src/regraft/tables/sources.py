"""Tables as people have them: arrays, files of word vectors, a model2vec folder, a language model.

Enters: a path. Leaves: the rows as float32, the words they belong to where that is known, and the checkpoint where it is one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.errors import InputError, ParameterError
from regraft.tables.embedding import check_weight
from regraft.tokenizer import Tokenizer
from regraft.vectors.files import open_vectors
from regraft.vectors.tokens import token_text

WORDS_BESIDE = (".txt", ".json", ".parquet")
KINDS = "an array (.npy), word vectors (.vec, .txt, .bin), a model2vec folder or a model's folder"


@dataclass(frozen=True, eq=False)
class Given:
    """A table that is there.

    Attributes
    ----------
    path : where it was. weight : (n, d) float32. words : its words, or None. source : what `provenance.record` takes.
    checkpoint : the language model that it belongs to, or None.
    """

    path: Path
    weight: torch.Tensor
    words: list[str] | None
    source: provenance.Source
    checkpoint: Checkpoint | None = None

    @property
    def table_name(self) -> str:
        """The input table of the language model, as its files spell it."""
        assert self.checkpoint is not None
        return self.checkpoint.layout.input[0]


def open_table(path: str | Path) -> Given:
    """The table at `path`. Raises `InputError` in one line for what is none, is damaged, or holds NaN."""
    path = Path(path).expanduser()
    if path.is_dir():
        given = _model2vec(path) if (path / "config.json").is_file() and _is_model2vec(path) else _language_model(path)
    elif path.is_file():
        given = _array(path) if path.suffix == ".npy" and not _words_beside(path) else _word_vectors(path)
    elif path.suffix or path.is_absolute():
        raise ParameterError(f"{path}: no such file or folder: give {KINDS}")
    else:
        given = _language_model(path)  # an id of the Hub, perhaps
    try:
        check_weight(given.weight)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None
    return given


def _words_beside(path: Path) -> bool:
    stems = (path.stem, path.stem.removesuffix("_emb") + "_index")
    return any(path.with_name(stem + ending).is_file() for stem in stems for ending in WORDS_BESIDE)


def _array(path: Path) -> Given:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        said = " ".join(str(error).split())[:200]
        raise ParameterError(f"{path}: not a plain NumPy table ({said}): save it as a 2-D float array") from None
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise ParameterError(f"{path}: an array of shape {found.shape} and type {found.dtype}: give rows of real numbers, shape (n, d)")
    return Given(path, torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32)), None, provenance.Given(path.resolve()))


def _word_vectors(path: Path) -> Given:
    vectors = open_vectors(path)
    weight = torch.from_numpy(np.array(vectors.matrix, dtype=np.float32))
    return Given(path, weight, list(vectors.words), provenance.Given(path.resolve()))


def _is_model2vec(path: Path) -> bool:
    try:
        return bool(json.loads((path / "config.json").read_bytes()).get("model_type") == "model2vec")
    except (OSError, ValueError, AttributeError):
        return False


def _model2vec(path: Path) -> Given:
    weights = path / "model.safetensors"
    try:
        with safe_open(weights, framework="pt") as file:
            names = set(file.keys())
            if "embeddings" not in names or "mapping" in names:
                raise InputError(
                    f"{weights}: its rows are not one a token (it holds {', '.join(sorted(names))}): save it without quantizing"
                )
            weight = file.get_tensor("embeddings").float()
    except (OSError, SafetensorError) as error:
        raise InputError(f"{weights}: cannot be read as safetensors ({error}): get the folder anew") from None
    tokenizer = Tokenizer.from_directory(path)
    words = [token_text(tokenizer, token) for token in range(min(tokenizer.vocab_size, len(weight)))]
    return Given(path, weight, words, provenance.Given(path.resolve(), f"sha256:{provenance.sha256(weights)}"))


def _language_model(path: Path) -> Given:
    checkpoint = Checkpoint.open(path, vocabulary=True)
    weight = checkpoint.read(checkpoint.layout.input[0]).float()
    tokenizer = Tokenizer.from_directory(checkpoint.path)
    words = [token_text(tokenizer, token) for token in range(min(tokenizer.vocab_size, len(weight)))]
    return Given(checkpoint.path, weight, words, checkpoint, checkpoint)
