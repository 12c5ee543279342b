"""CBOW, Order, LBL and NNLM: the words of a window together predict the word in its middle."""

from typing import Any

import numpy as np

from regraft.text.words.kernels.compiled import LONGEST, compiled, draw, move, noise, read_line, sigmoid, surprise

LINEAR, TANH = 1, 2  # hidden layers; 0 is none


@compiled
def windows(
    tokens: Any, lines: Any, tables: Any, squares: Any, keep: Any, share: Any, other: Any, state: Any, rates: Any, window: Any, how: Any
) -> Any:
    """One pass over `lines` (n, 2) of `tokens`: starts and ends.

    tables : inputs (V, d), outputs (V, width of what predicts), H (width, width of x) or any table where `hidden` is 0.
    how : adagrad, shrinking, padded, concatenated, hidden, learning. Outside a line `padded` sets word 0. The rest is as in `pairs`.
    """
    inputs, outputs, matrix = tables
    in_squares, out_squares, matrix_squares = squares
    side, negatives = window
    adagrad, shrinking, padded, concatenated, hidden, learning = how
    dim, width = inputs.shape[1], outputs.shape[1]
    line, slots = np.empty(LONGEST, np.int32), np.empty(2 * side, np.int64)
    x = np.empty(2 * side * dim if concatenated else dim, np.float32)
    h, passed, upper = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    back = np.empty(len(x), np.float32)
    loss, terms = 0.0, 0
    for number in range(len(lines)):
        rate = rates[0] + (rates[1] - rates[0]) * np.float32(number / len(lines))
        count = read_line(tokens, lines[number, 0], lines[number, 1], keep, state, line)
        for at in range(count):
            wide = side
            if shrinking:
                wide = 1 + np.int64((draw(state) >> np.uint64(33)) % np.uint64(side))
            filled = 0
            for near in range(at - wide, at + wide + 1):
                inside = 0 <= near < count
                if near != at and (inside or padded):
                    slots[filled] = line[near] if inside else 0
                    filled += 1
            if filled == 0:
                continue
            if concatenated:
                for slot in range(filled):
                    x[slot * dim : (slot + 1) * dim] = inputs[slots[slot]]
            else:
                x[:] = 0
                for slot in range(filled):
                    x += inputs[slots[slot]]
                x /= np.float32(filled)
            if hidden:
                for r in range(width):
                    total = np.float32(0)
                    for j in range(len(x)):
                        total += matrix[r, j] * x[j]
                    h[r] = np.tanh(total) if hidden == TANH else total
            else:
                h[:] = x
            passed[:] = 0
            for k in range(1 + negatives):
                target = np.int64(line[at]) if k == 0 else noise(state, share, other)
                if k and target == line[at]:
                    continue
                out = outputs[target]
                score = np.float32(0)
                for r in range(width):
                    score += h[r] * out[r]
                if not learning:
                    loss += surprise(score if k == 0 else -score)
                    terms += 1
                    continue
                pull = sigmoid(score) - np.float32(k == 0)
                for r in range(width):
                    passed[r] += pull * out[r]
                    upper[r] = pull * h[r]
                move(out, out_squares[target], upper, rate, adagrad)
            if not learning:
                continue
            if hidden:
                back[:] = 0
                for r in range(width):
                    slope = passed[r] * (np.float32(1) - h[r] * h[r]) if hidden == TANH else passed[r]
                    through(matrix[r], matrix_squares[r], x, slope, back, rate, adagrad)
            else:
                back[:] = passed
            if not concatenated:
                back /= np.float32(filled)
            for slot in range(filled):
                word = slots[slot]
                part = back[slot * dim : (slot + 1) * dim] if concatenated else back[:]
                move(inputs[word], in_squares[word], part, rate, adagrad)
    return loss, terms


@compiled
def through(row: Any, squares: Any, x: Any, slope: Any, back: Any, rate: Any, adagrad: Any) -> None:
    """Pass `slope` of one hidden unit back through its `row` of H to x, adding to `back`, and move that row."""
    if adagrad:
        for j in range(len(x)):
            back[j] += row[j] * slope
            gradient = slope * x[j]
            squares[j] += gradient * gradient
            row[j] -= rate * gradient / np.sqrt(squares[j])
    else:
        for j in range(len(x)):
            back[j] += row[j] * slope
            row[j] -= rate * slope * x[j]
