"""C&W: a window with the word in its own slot gets one score, which a true middle raises and a random one lowers."""

from typing import Any

import numpy as np

from regraft.text.words.kernels.compiled import LONGEST, compiled, move, noise, read_line, sigmoid, surprise
from regraft.text.words.kernels.windows import through


@compiled
def scores(
    tokens: Any, lines: Any, tables: Any, squares: Any, keep: Any, share: Any, other: Any, state: Any, rates: Any, window: Any, how: Any
) -> Any:
    """One pass over `lines` (n, 2) of `tokens`: starts and ends.

    tables : inputs (V, d), H of the slots around (width, 2 side d), H of the middle slot (width, d), v (1, width).
    how : adagrad, learning. Gradients of H and v are summed over the samples; word vectors move with each. The rest is as in `pairs`.
    """
    inputs, around, middle, top = tables
    in_squares, around_squares, middle_squares, top_squares = squares
    side, negatives = window
    adagrad, learning = how
    dim, width = inputs.shape[1], around.shape[0]
    line, slots = np.empty(LONGEST, np.int32), np.empty(2 * side, np.int64)
    x, back = np.empty(2 * side * dim, np.float32), np.empty(2 * side * dim, np.float32)
    still, h = np.empty(width, np.float32), np.empty(width, np.float32)
    slope, slopes = np.empty(width, np.float32), np.empty(width, np.float32)
    of_top, of_word, of_middle = np.empty(width, np.float32), np.empty(dim, np.float32), np.empty((width, dim), np.float32)
    loss, terms = 0.0, 0
    for number in range(len(lines)):
        rate = rates[0] + (rates[1] - rates[0]) * np.float32(number / len(lines))
        count = read_line(tokens, lines[number, 0], lines[number, 1], keep, state, line)
        for at in range(count):
            filled = 0
            for near in range(at - side, at + side + 1):
                if near != at:
                    slots[filled] = line[near] if 0 <= near < count else 0
                    x[filled * dim : (filled + 1) * dim] = inputs[slots[filled]]
                    filled += 1
            for r in range(width):
                total = np.float32(0)
                for j in range(len(x)):
                    total += around[r, j] * x[j]
                still[r] = total
            of_top[:], of_middle[:], slopes[:] = 0, 0, 0
            for k in range(1 + negatives):
                target = np.int64(line[at]) if k == 0 else noise(state, share, other)
                if k and target == line[at]:
                    continue
                word = inputs[target]
                score = np.float32(0)
                for r in range(width):
                    total = still[r]
                    for j in range(dim):
                        total += middle[r, j] * word[j]
                    h[r] = np.tanh(total)
                    score += top[0, r] * h[r]
                if not learning:
                    loss += surprise(score if k == 0 else -score)
                    terms += 1
                    continue
                pull = sigmoid(score) - np.float32(k == 0)
                of_word[:] = 0
                for r in range(width):
                    of_top[r] += pull * h[r]
                    slope[r] = pull * top[0, r] * (np.float32(1) - h[r] * h[r])
                    slopes[r] += slope[r]
                    for j in range(dim):
                        of_middle[r, j] += slope[r] * word[j]
                        of_word[j] += middle[r, j] * slope[r]
                move(word, in_squares[target], of_word, rate, adagrad)
            if not learning:
                continue
            back[:] = 0
            for r in range(width):
                through(around[r], around_squares[r], x, slopes[r], back, rate, adagrad)
                move(middle[r], middle_squares[r], of_middle[r], rate, adagrad)
            move(top[0], top_squares[0], of_top, rate, adagrad)
            for slot in range(filled):
                move(inputs[slots[slot]], in_squares[slots[slot]], back[slot * dim : (slot + 1) * dim], rate, adagrad)
    return loss, terms
