"""Bias taken out of vectors: a direction out of all words that should not have it, or all that a linear classifier could find.

Enters: rows and words. Leaves: changed rows. What is left of a bias that is not along the direction shows in `regraft.text.lexical.weat`,
and in a clustering of formerly biased words.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError

Floats = npt.NDArray[np.float64]
Pairs = Sequence[tuple[str, str]]


def hard_debias(
    words: Sequence[str], rows: npt.ArrayLike, *, definitional: Pairs, specific: Iterable[str] = (), equalize: Pairs = ()
) -> tuple[Floats, Floats]:
    r"""Neutralise and equalise (Bolukbasi et al. 2016, arXiv 1607.06520, section 6): rows (n, d) of unit length, and the direction g (d,).

    g is the first principal component of :math:`a - c, b - c` over the `definitional` pairs, c their middle. Every word but those of
    `specific` and of `equalize` loses its part along g. A pair of `equalize` (as it stands, in capitals, and with a capital) is set on both
    sides of what it shares: :math:`y \pm z g,\ z = \sqrt{1 - |y|^2}`. Pairs with a missing word are passed over.

    Raises `ParameterError`: no definitional pair is left.
    """
    place = {word: row for row, word in reversed(list(enumerate(words)))}
    table = _unit(np.asarray(rows, dtype=np.float64))
    g = bias_direction(words, table, definitional)
    pairs = [(place[a], place[b]) for pair in equalize for a, b in _cased(pair) if a in place and b in place]
    spared = {place[word] for word in specific if word in place}
    neutral = np.array(sorted(set(range(len(words))) - spared - {row for pair in pairs for row in pair}), dtype=int)
    table[neutral] = _unit(table[neutral] - np.outer(table[neutral] @ g, g))
    for a, b in pairs:
        middle = (table[a] + table[b]) / 2
        shared = middle - (middle @ g) * g
        z = np.sqrt(max(0.0, 1 - shared @ shared)) * (1 if (table[a] - table[b]) @ g >= 0 else -1)
        table[a], table[b] = shared + z * g, shared - z * g
    return table, g


def bias_direction(words: Sequence[str], rows: Floats, definitional: Pairs) -> Floats:
    """First principal component of the pairs' halves, (d,)."""
    place = {word: row for row, word in reversed(list(enumerate(words)))}
    halves = [(rows[place[a]] - rows[place[b]]) / 2 for a, b in definitional if a in place and b in place]
    if not halves:
        raise ParameterError("hard-debias: no definitional pair has vectors for both of its words")
    return np.asarray(np.linalg.svd(np.concatenate([halves, np.negative(halves)]), full_matrices=False)[2][0])


def null_space(rows: npt.ArrayLike, labels: npt.ArrayLike, *, rounds: int = 10, seed: int = 0) -> Floats:
    """Projection P (d, d), so that a linear classifier finds nothing of `labels` in `rows @ P` (INLP, arXiv 2004.07667).

    `rounds` logistic regressions are fitted one after the other, each on what the others left, and their directions are taken out.
    """
    from sklearn.linear_model import LogisticRegression

    table, found = np.asarray(rows, dtype=np.float64), np.zeros((0, np.shape(rows)[1]))
    for _ in range(min(rounds, table.shape[1])):
        projection = _outside(found, table.shape[1])
        found = np.concatenate([found, LogisticRegression(random_state=seed).fit(table @ projection, labels).coef_ @ projection])
    return _outside(found, table.shape[1])


def _outside(directions: Floats, width: int) -> Floats:
    if not len(directions):
        return np.eye(width)
    _, values, axes = np.linalg.svd(directions, full_matrices=False)
    axes = axes[values > 1e-8 * values[0]]
    return np.asarray(np.eye(width) - axes.T @ axes)


def _cased(pair: tuple[str, str]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((change(pair[0]), change(pair[1])) for change in (str, str.lower, str.title, str.upper)))


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-300))
