"""Token vectors learned from the user's own text, cut by the new tokenizer.

Enters: a tokenizer and texts. Leaves: one float32 row per token id, zero for tokens that are too rare. Trained once per tokenizer, text and
settings: the rows are kept in the user's cache under a hash of all three.
"""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pooch
import regex

from regraft.errors import CorpusError, ParameterError
from regraft.output import atomic_file
from regraft.progress import step
from regraft.tokenizer import Tokenizer
from regraft.vectors.tokens import Vectors

Floats = npt.NDArray[np.float32]
WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*|\p{N}+")
CHUNK = 10_000  # gensim drops what a sentence has beyond this many tokens
CONTROL_PICTURES: dict[int, int | str] = {code: 0x2400 + code for code in range(32)} | {
    0x20: "▁",
    0x85: "␤",
    0xA0: "⍽",
    0x2028: "␤",
    0x2029: "␤",
}


@dataclass(frozen=True, kw_only=True)
class VectorTraining:
    """How token vectors are trained; the defaults are those of FOCUS.

    Parameters
    ----------
    model : "cbow" or "skipgram".
    dim : numbers in a vector.
    epochs, window, negative : passes over the text, tokens to each side, negative samples.
    min_count : rarer tokens get no vector.
    min_n, max_n : lengths of character n-grams that share their vectors between tokens; `max_n` 0 for none (word2vec).
    buckets : rows that n-grams are hashed into; memory is 4 * dim * (tokens + buckets) bytes, twice while training.
    workers : threads; with more than one the result is not the same in every run.
    """

    model: Literal["cbow", "skipgram"] = "cbow"
    dim: int = 100
    epochs: int = 3
    window: int = 5
    negative: int = 10
    min_count: int = 10
    min_n: int = 3
    max_n: int = 6
    buckets: int = 200_000
    workers: int = 1


def train_token_vectors(
    tokenizer: Tokenizer, texts: Sequence[str], training: VectorTraining, seed: int = 0, cache: Path | None = None
) -> Floats:
    """Vectors of `tokenizer`'s tokens from `texts`, shape (vocab_size, dim), zero for tokens below `min_count`.

    Parameters
    ----------
    cache : folder to keep them in; None takes the user's cache folder.

    Raises `CorpusError` when no token occurs `min_count` times, `ParameterError` when gensim is not installed.
    """
    folder = cache or Path(pooch.os_cache("regraft")) / "vectors"
    file = folder / f"{content_key(tokenizer, texts, training, seed)}.npy"
    kept = _read_kept(file, (tokenizer.vocab_size, training.dim))
    if kept is None:
        with step(f"training token vectors on {len(texts)} texts"):
            kept = _train(tokenizer, texts, training, seed)
        _keep(file, kept)
    return kept


def train_word_vectors(texts: Sequence[str], training: VectorTraining, seed: int = 0, cache: Path | None = None) -> Vectors:
    """Vectors of the words of `texts` (runs of letters with their marks, or of digits, as written), with their counts.

    They are kept in `cache` as token vectors are. Raises `CorpusError` when fewer than two words occur `min_count` times,
    `ParameterError` when gensim is not installed.
    """
    file = (cache or Path(pooch.os_cache("regraft")) / "vectors") / f"words-{content_key(None, texts, training, seed)}.npy"
    models = import_gensim()
    lines = [words for text in texts for line in text.splitlines() if (words := WORD.findall(line))]
    counts = Counter(word for line in lines for word in line)
    words = sorted((word for word, count in counts.items() if count >= training.min_count), key=lambda word: (-counts[word], word))
    if len(words) < 2:
        raise CorpusError(
            f"the corpus is too small for word vectors: fewer than two words occur {training.min_count} times or more; "
            "give more text, or lower min_count"
        )
    kept = _read_kept(file, (len(words), training.dim))
    if kept is None:
        with step(f"training word vectors on {len(lines):,} lines"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            keyed = _fit(models, lines, training, seed)
        kept = np.asarray(keyed.vectors[[keyed.key_to_index[word] for word in words]], dtype=np.float32)
        _keep(file, kept)
    return Vectors(words, kept, np.array([counts[word] for word in words], dtype=np.float64), name="corpus")


def content_key(tokenizer: Tokenizer | None, texts: Sequence[str], training: VectorTraining, seed: int) -> str:
    """Hash of everything that the vectors depend on."""
    digest = hashlib.blake2b(digest_size=20)
    spec = None if tokenizer is None else tokenizer.spec
    digest.update(json.dumps([spec, asdict(training), seed], sort_keys=True, ensure_ascii=True).encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def token_names(tokenizer: Tokenizer) -> list[str]:
    """A different name for each id, as readable text without white space, so that n-grams are those of the characters."""
    names: list[str] = []
    taken: set[str] = set()
    for token in range(tokenizer.vocab_size):
        try:
            name = tokenizer.surface(token).decode("utf-8").translate(CONTROL_PICTURES)
        except UnicodeDecodeError:
            name = tokenizer.pieces[token]
        if not name or name in taken or tokenizer.is_special(token) or any(letter.isspace() for letter in name):
            name = f"\N{SYMBOL FOR SUBSTITUTE}{token}"  # only n-grams of digits to share
        taken.add(name)
        names.append(name)
    return names


@dataclass(frozen=True)
class _Sentences:
    """The texts as token names; gensim goes over them once per epoch."""

    ids: Sequence[npt.NDArray[np.int32]]
    names: Sequence[str]

    def __iter__(self) -> Iterator[list[str]]:
        for line in self.ids:
            for start in range(0, len(line), CHUNK):
                yield [self.names[i] for i in line[start : start + CHUNK].tolist()]


def _train(tokenizer: Tokenizer, texts: Sequence[str], training: VectorTraining, seed: int) -> Floats:
    models = import_gensim()
    ids = [np.array(line, dtype=np.int32) for line in tokenizer.encode_batch(texts)]
    counts = np.bincount(np.concatenate(ids) if ids else np.zeros(0, dtype=np.int32), minlength=tokenizer.vocab_size)
    frequent = int((counts >= training.min_count).sum())
    if frequent < 2:
        raise CorpusError(
            f"the corpus is too small for token vectors: {frequent} tokens occur {training.min_count} times or more; "
            "give more text, or lower min_count"
        )
    names = token_names(tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keyed = _fit(models, _Sentences(ids, names), training, seed)
    out = np.zeros((tokenizer.vocab_size, training.dim), dtype=np.float32)
    tokens = np.flatnonzero(counts >= training.min_count)
    out[tokens] = keyed.vectors[[keyed.key_to_index[names[i]] for i in tokens.tolist()]]
    return out


def _fit(models: Any, sentences: Any, training: VectorTraining, seed: int) -> Any:
    """gensim's vectors of the words of `sentences`."""
    options = {
        "vector_size": training.dim,
        "window": training.window,
        "negative": training.negative,
        "min_count": training.min_count,
        "epochs": training.epochs,
        "sg": int(training.model == "skipgram"),
        "seed": seed + 1,
        "workers": training.workers,
    }
    if training.max_n:
        options |= {"min_n": training.min_n, "max_n": training.max_n, "bucket": training.buckets}
        return models.FastText(sentences, **options).wv
    return models.Word2Vec(sentences, **options).wv


def import_gensim() -> Any:
    """`gensim.models`, or an error that names the extra."""
    try:
        import gensim.models
    except ImportError:
        raise ParameterError("word and token vectors need gensim, which is not installed: pip install 'regraft[vectors]'") from None
    return gensim.models


def _read_kept(file: Path, shape: tuple[int, int]) -> Floats | None:
    try:
        kept = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return kept if kept.shape == shape and kept.dtype == np.float32 and np.isfinite(kept).all() else None


def _keep(file: Path, vectors: Floats) -> None:
    """Write whole or not at all; a cache that cannot be written costs time, not the run."""
    try:
        with atomic_file(file) as temporary, temporary.open("wb") as out:
            np.save(out, vectors)
    except OSError as error:
        warnings.warn(f"{file}: token vectors could not be kept ({error}); they are trained again next time", stacklevel=2)
