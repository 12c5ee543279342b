"""Skip-gram: each word of the window predicts the word in its middle."""

from typing import Any

import numpy as np

from regraft.text.words.kernels.compiled import LONGEST, compiled, draw, move, noise, read_line, sigmoid, surprise


@compiled
def pairs(
    tokens: Any, lines: Any, tables: Any, squares: Any, keep: Any, share: Any, other: Any, state: Any, rates: Any, window: Any, how: Any
) -> Any:
    """One pass over `lines` (n, 2) of `tokens`: starts and ends.

    tables : inputs and outputs (V, d). rates : (first, last) of a linear fall over the pass. window : (words to a side, negatives).
    how : adagrad, shrinking, shared, learning. Returns the summed loss and the number of terms.
    """
    inputs, outputs = tables
    in_squares, out_squares = squares
    side, negatives = window
    adagrad, shrinking, shared, learning = how
    width = inputs.shape[1]
    line = np.empty(LONGEST, np.int32)
    targets = np.empty(1 + negatives, np.int64)
    passed, upper = np.empty(width, np.float32), np.empty(width, np.float32)
    loss, terms = 0.0, 0
    for number in range(len(lines)):
        rate = rates[0] + (rates[1] - rates[0]) * np.float32(number / len(lines))
        count = read_line(tokens, lines[number, 0], lines[number, 1], keep, state, line)
        for at in range(count):
            targets[0] = line[at]
            wide = side
            if shrinking:
                wide = 1 + np.int64((draw(state) >> np.uint64(33)) % np.uint64(side))
            if shared:
                for k in range(negatives):
                    targets[1 + k] = noise(state, share, other)
            for near in range(max(0, at - wide), min(count, at + wide + 1)):
                if near == at:
                    continue
                if not shared:
                    for k in range(negatives):
                        targets[1 + k] = noise(state, share, other)
                given = inputs[line[near]]
                passed[:] = 0
                for k in range(1 + negatives):
                    target = targets[k]
                    if k and target == targets[0]:
                        continue
                    out = outputs[target]
                    score = np.float32(0)
                    for j in range(width):
                        score += given[j] * out[j]
                    if not learning:
                        loss += surprise(score if k == 0 else -score)
                        terms += 1
                        continue
                    pull = sigmoid(score) - np.float32(k == 0)
                    if adagrad:
                        for j in range(width):
                            passed[j] += pull * out[j]
                            upper[j] = pull * given[j]
                        move(out, out_squares[target], upper, rate, True)
                    else:
                        step = rate * pull
                        for j in range(width):
                            passed[j] += pull * out[j]
                            out[j] -= step * given[j]
                if learning:
                    move(given, in_squares[line[near]], passed, rate, adagrad)
    return loss, terms
