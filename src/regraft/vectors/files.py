"""Word vectors as people have them: files of fastText, word2vec, GloVe and NumPy, or gensim's and a dict in memory.

Enters: a path or an object. Leaves: `Vectors`. No pickle is ever loaded.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError, RegraftError
from regraft.vectors.tokens import Vectors

FASTTEXT_MAGIC = (793712314).to_bytes(4, "little")
PICKLE = b"\x80"  # protocol 2 and later
CONVERT = "convert it where you trust it: KeyedVectors.load(FILE).save_word2vec_format('FILE.vec')"


@runtime_checkable
class KeyedVectors(Protocol):
    """As much of gensim's class as is always there; its FastText kind composes vectors of unlisted words too."""

    index_to_key: Sequence[str]
    vectors: npt.NDArray[np.float32]


GivenVectors: TypeAlias = str | Path | KeyedVectors | Mapping[str, npt.ArrayLike]


def open_vectors(given: GivenVectors, prefix: str | None = None) -> Vectors:
    """Word vectors of a file, whose format is found out from its content, of gensim `KeyedVectors`, or of a mapping word -> vector.

    Text: one word and its numbers a line, with word2vec's header (fastText `.vec`) or without (GloVe). Binary: fastText `.bin`
    (with n-grams, so that unlisted words have vectors too) and word2vec's. NumPy: `NAME.npy` with the words in `NAME.txt`, `NAME.json`
    or `NAME.parquet` beside it (also `X_emb.npy` with `X_index.*`).

    Parameters
    ----------
    prefix : keep only words that start with it, without it; for files that hold several languages as "vi:word".

    Raises `ParameterError`: none of these, no such file, a pickle, a damaged or cut file, lines of unequal length, NaN, no words.
    """
    if isinstance(given, str | Path):
        vectors = _read_file(Path(given))
    elif isinstance(given, Mapping):
        vectors = _from_mapping(given)
    elif isinstance(given, KeyedVectors):
        vectors = _from_gensim(given, "the given KeyedVectors")
    else:
        kind = type(given).__name__
        raise ParameterError(
            f"word vectors of type {kind}: give a path, gensim KeyedVectors (of a model, its .wv), or a dict word -> vector"
        )
    return vectors if prefix is None else vectors.with_prefix(prefix)


def _read_file(path: Path) -> Vectors:
    if not path.is_file():
        raise ParameterError(f"{path}: no such file of word vectors: give .vec, .txt, .bin or .npy")
    with _reading(path):
        return _parse_file(path)


def _parse_file(path: Path) -> Vectors:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(PICKLE):
        raise ParameterError(f"{path}: a pickle (gensim's own format), which can run code and is never loaded: {CONVERT}")
    if start.startswith(b"\x93NUMPY"):
        return _read_numpy(path)
    if start.startswith(FASTTEXT_MAGIC):
        return _from_gensim(_gensim("fasttext").load_facebook_vectors(str(path)), str(path))
    if path.suffix == ".bin" and len(start.split(b"\n")[0].split()) == 2:
        return _from_gensim(_gensim("KeyedVectors").load_word2vec_format(str(path), binary=True), str(path))
    return _read_text(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a parser stumbles over, as one `ParameterError` that names the file."""
    try:
        yield
    except (RegraftError, MemoryError):
        raise
    except Exception as error:  # gensim, NumPy and pyarrow raise a dozen kinds for damaged files
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ParameterError(f"{path}: damaged or cut off, it cannot be read to its end ({said}): get the file anew") from error


def _read_text(path: Path) -> Vectors:
    words: list[str] = []
    numbers = bytearray()  # grows in place, where a list of rows would be in memory twice once it is stacked
    dim, promised = 0, None
    try:
        with path.open(encoding="utf-8", newline="\n") as file, warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of what is not a number
            for number, line in enumerate(file, 1):
                line = line.rstrip("\n\r ")
                if number == 1 and len(line.split(" ")) == 2 and line.replace(" ", "").isdigit():
                    promised, dim = map(int, line.split(" "))  # word2vec's header
                    continue
                dim = dim or line.count(" ")
                word, row = _parse(line, dim)
                if not dim or len(row) != dim:
                    raise ParameterError(f"{path}, line {number}: {len(row)} numbers after the word, expected {dim or 'some'}: repair it")
                words.append(word)
                numbers += row.tobytes()
    except UnicodeDecodeError:
        raise ParameterError(f"{path}: not UTF-8 text, and no binary format that regraft knows: give .vec, .txt, .bin or .npy") from None
    except ValueError:
        raise ParameterError(f"{path}, line {number}: not a word and its numbers: repair the line") from None
    if not words:
        raise ParameterError(f"{path}: no word vectors in it: give one word and its numbers a line")
    if promised not in (None, len(words)):
        raise ParameterError(
            f"{path}: {len(words)} words, but its first line says {promised}: the file is cut off; get it anew, or correct that line"
        )
    return Vectors(words, np.frombuffer(numbers, dtype=np.float32).reshape(-1, dim), name=str(path))


def _parse(line: str, dim: int) -> tuple[str, npt.NDArray[np.float32]]:
    """The word and the numbers of one line; a GloVe word may hold spaces itself, which the fast way does not expect."""
    word, _, rest = line.partition(" ")
    try:
        row = np.fromstring(rest, dtype=np.float32, sep=" ")
        if len(row) == dim:
            return word, row
    except (ValueError, DeprecationWarning):
        pass
    word, *numbers = line.rsplit(" ", max(dim, 1))
    return word, np.array(numbers, dtype=np.float32)


def _read_numpy(path: Path) -> Vectors:
    try:
        matrix = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ParameterError(f"{path}: not a plain NumPy table ({error}): save it as a 2-D float array") from None
    stems = [path.stem, path.stem.removesuffix("_emb") + "_index"]
    places = [path.with_name(stem + ending) for stem in stems for ending in (".txt", ".json", ".parquet")]
    index = next((place for place in places if place.is_file()), None)
    if index is None:
        raise ParameterError(f"{path}: no list of its words: put one word a line into {places[0].name} beside it")
    if matrix.ndim != 2:
        raise ParameterError(f"{path}: shape {matrix.shape}, expected (words, numbers)")
    with _reading(index):
        words = _read_index(index)
    return Vectors(words, matrix.astype(np.float32), name=str(path))


def _read_index(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise ParameterError(f"{path}: reading Parquet needs pyarrow: pip install 'regraft[data]'") from None
        table = parquet.read_table(path)
        column = next((c for c in table.column_names if table.schema.field(c).type == "string"), table.column_names[0])
        return [str(word) for word in table.column(column).to_pylist()]
    text = path.read_text("utf-8")
    if path.suffix == ".txt":
        return text.splitlines()
    content = json.loads(text)
    if isinstance(content, dict):  # word -> row
        return sorted(content, key=content.__getitem__)
    return [str(word) for word in content]


def _from_mapping(given: Mapping[str, npt.ArrayLike]) -> Vectors:
    try:
        matrix = np.array(list(given.values()), dtype=np.float32)
    except (TypeError, ValueError):
        raise ParameterError("the given word vectors are no lists of numbers of one length: give a dict word -> vector") from None
    return Vectors([str(word) for word in given], matrix, name="the given dict")


def _from_gensim(keyed: Any, name: str) -> Vectors:
    """`Vectors` of gensim `KeyedVectors` in memory (or its FastText kind, which composes)."""
    words = list(keyed.index_to_key)
    counts = None
    if "count" in getattr(keyed, "expandos", {}):
        counts = np.array([keyed.get_vecattr(word, "count") for word in words], dtype=np.float64)
        if (np.diff(counts) == -1).all():  # n, n - 1, ...: what gensim makes up where a file has none
            counts = None
    compose = None
    if hasattr(keyed, "vectors_ngrams") and keyed.bucket:

        def compose(missing: Sequence[str]) -> npt.NDArray[np.float32]:
            # a word too short for any n-gram has no vector
            return np.stack([_composed(keyed, word) for word in missing]).astype(np.float32)

    return Vectors(words, np.asarray(keyed.vectors, dtype=np.float32), counts, compose, name)


def _composed(keyed: Any, word: str) -> Any:
    try:
        return keyed.get_vector(word)
    except KeyError:
        return np.zeros(keyed.vector_size, dtype=np.float32)


def _gensim(part: str) -> Any:
    from regraft.vectors.training import import_gensim

    models = import_gensim()
    return getattr(models, part)
