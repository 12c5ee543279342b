"""Two sets of word vectors brought into one space by a bilingual dictionary.

Enters: source and target vectors, pairs of words. Leaves: the source vectors turned into the target's space. The map is orthogonal, so
lengths and angles within a language stay as they were.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError
from regraft.vectors.tokens import Vectors

Floats = npt.NDArray[np.float32]
Pairs = Sequence[tuple[str, str]]


def read_dictionary(path: str | Path) -> list[tuple[str, str]]:
    """Word pairs: a source word and a target word a line, between them a tab (or, without tabs, the first white space).

    Raises `ParameterError` if the file cannot be read or no line has two words.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or "no file").lower()
        raise ParameterError(f"{path}: cannot read the dictionary ({why}): give UTF-8 lines of source word and target word") from None
    split = [line.strip().split("\t" if "\t" in line.strip() else None, 1) for line in lines]
    pairs = [(parts[0].strip(), parts[1].strip()) for parts in split if len(parts) == 2 and all(parts)]
    if not pairs:
        raise ParameterError(f"{path}: no line holds two words: write source word, tab, target word")
    return pairs


def orthogonal_procrustes(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    r"""The orthogonal :math:`Q` that minimizes :math:`\lVert X Q - Y \rVert_F`, shape (d, e), for X (pairs, d) and Y (pairs, e).

    Where the dimensions differ, it keeps what the smaller can hold: the first *r* singular directions of either side, *r* the smaller.
    """
    product = source.T @ target
    u, _, vt = np.linalg.svd(product, full_matrices=product.shape[0] == product.shape[1])
    return np.asarray(u @ vt, dtype=np.float64)


def case_variants(word: str) -> tuple[str, str, str]:
    """The spellings that are looked for: as it stands, lower case, title case."""
    return word, word.lower(), word.title()


def known_pairs(source: Vectors, target: Vectors, dictionary: Pairs) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the pairs that both sides list, each pair tried in 3 x 3 case variants, repeats kept as in WECHSEL."""
    left: list[int] = []
    right: list[int] = []
    for one, other in dictionary:
        for a in case_variants(one):
            for b in case_variants(other):
                if a in source.index and b in target.index:
                    left.append(source.index[a])
                    right.append(target.index[b])
    return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)


def align_vectors(source: Vectors, target: Vectors, dictionary: Pairs | None, notes: list[str] | None = None) -> tuple[Vectors, Vectors]:
    """Both sets in one space: `source` rotated onto `target` where a `dictionary` is given, else as they are.

    With a dictionary, the wider set is first reduced to the narrower's dimension by its principal directions. Fewer known words than
    dimensions leave part of the rotation open, which is added to `notes`. Raises `ParameterError`: dimensions that differ without a
    dictionary, or no pair that both sets know.
    """
    if dictionary is None:
        if source.dim != target.dim:
            raise ParameterError(
                f"{source.name} has {source.dim} dimensions and {target.name} {target.dim}, so they are not one space: "
                "give --dictionary to align them"
            )
        return source, target
    dim = min(source.dim, target.dim)
    source, target = reduce_vectors(source, dim), reduce_vectors(target, dim)
    left, right = known_pairs(source, target, dictionary)
    if not len(left):
        raise ParameterError(
            f"none of the dictionary's {len(dictionary)} pairs has vectors on both sides: each line is source word, target word; "
            "is it for these languages, in this order?"
        )
    known = min(len(np.unique(left)), len(np.unique(right)))
    if known < dim and notes is not None:
        notes.append(
            f"pairs of the dictionary that both sides know: {known}, fewer than the {dim} dimensions of {source.name}, "
            f"so that {dim - known} of them are turned arbitrarily: give a larger dictionary"
        )
    rotation = orthogonal_procrustes(source.matrix[left].astype(np.float64), target.matrix[right].astype(np.float64))
    return source.mapped(rotation.astype(np.float32)), target


def reduce_vectors(vectors: Vectors, dim: int) -> Vectors:
    """The first `dim` principal directions of `vectors` (uncentered), or `vectors` if they are no wider."""
    if vectors.dim <= dim:
        return vectors
    matrix = vectors.matrix.astype(np.float64)
    directions = np.linalg.eigh(matrix.T @ matrix)[1][:, ::-1][:, :dim]
    return vectors.mapped(directions.astype(np.float32))
