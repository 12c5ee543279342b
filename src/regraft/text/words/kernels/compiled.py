"""What every loop shares: compilation, random numbers, kept words, noise, and one step of a row under either rate.

A random state is one uint64 in an array of length 1, so that each thread has its own and a pass can go on where the last one stopped.
"""

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np

LONGEST = 1000  # words of a line that are read at once; what lies beyond is the next piece
SMALL = np.float32(1e-8)  # what AdaGrad's sums of squares start at
EDGE = np.float32(30.0)  # beyond it a sigmoid is 0 or 1 in float32


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code that runs beside other threads, kept on disk where there is a place to write."""
    try:
        done = numba.njit(fastmath=True, nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        done = numba.njit(fastmath=True, nogil=True, error_model="numpy")(function)
    return cast(Callable[..., Any], done)


@compiled
def draw(state: Any) -> Any:
    """The next 64 random bits (xorshift64*)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return x * np.uint64(2685821657736338717)


@compiled
def chance(state: Any) -> Any:
    """A random number in [0, 1)."""
    return np.float32(draw(state) >> np.uint64(40)) * np.float32(1 / (1 << 24))


@compiled
def noise(state: Any, share: Any, other: Any) -> Any:
    """A word of the noise distribution, by its alias table (V,), (V,)."""
    drawn = draw(state)
    place = np.int64(((drawn >> np.uint64(32)) * np.uint64(len(share))) >> np.uint64(32))
    if np.float32(np.int64(drawn & np.uint64(0xFFFFFF))) * np.float32(1 / (1 << 24)) < share[place]:
        return place
    return np.int64(other[place])


@compiled
def sigmoid(score: Any) -> Any:
    """1 / (1 + exp(-score)) in float32."""
    return np.float32(1) / (np.float32(1) + np.exp(-min(max(score, -EDGE), EDGE)))


@compiled
def surprise(score: Any) -> Any:
    """-log sigmoid(score)."""
    return np.log(np.float32(1) + np.exp(-min(max(score, -EDGE), EDGE)))


@compiled
def move(row: Any, squares: Any, gradient: Any, rate: Any, adagrad: Any) -> None:
    """One step down `gradient` (d,): plain, or AdaGrad with its sums of `squares` (d,)."""
    if adagrad:
        for j in range(len(row)):
            squares[j] += gradient[j] * gradient[j]
            row[j] -= rate * gradient[j] / np.sqrt(squares[j])
    else:
        for j in range(len(row)):
            row[j] -= rate * gradient[j]


@compiled
def read_line(tokens: Any, start: Any, stop: Any, keep: Any, state: Any, line: Any) -> Any:
    """Words of `tokens[start:stop]` that subsampling keeps, into `line`; how many."""
    count = 0
    for at in range(start, stop):
        word = tokens[at]
        if keep[word] >= 1 or chance(state) < keep[word]:
            line[count] = word
            count += 1
    return count
