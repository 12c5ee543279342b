"""Words and their pieces in one space: the same window predicts the word in its middle and each of that word's pieces."""

from typing import Any

import numpy as np

from regraft.text.words.kernels.compiled import LONGEST, compiled, move, noise, read_line, sigmoid, surprise


@compiled
def joint(
    tokens: Any, lines: Any, tables: Any, squares: Any, keep: Any, noises: Any, parts: Any, state: Any, rates: Any, window: Any, how: Any
) -> Any:
    """One pass over `lines` (n, 2) of `tokens`: starts and ends.

    tables : inputs and outputs (V + P, d), pieces behind words. noises : alias tables of words and of pieces. parts : ids of all words'
    pieces, and where each word's begin (V + 1,). window : (words to a side, pieces to a side, negatives). how : adagrad, learning.
    """
    inputs, outputs = tables
    in_squares, out_squares = squares
    word_share, word_other, piece_share, piece_other = noises
    ids, begin = parts
    side, beside, negatives = window
    adagrad, learning = how
    dim, first_piece = inputs.shape[1], len(word_share)
    line, given = np.empty(LONGEST, np.int32), np.empty(2 * (side + beside), np.int64)
    x, passed, upper = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    loss, terms = 0.0, 0
    for number in range(len(lines)):
        rate = rates[0] + (rates[1] - rates[0]) * np.float32(number / len(lines))
        count = read_line(tokens, lines[number, 0], lines[number, 1], keep, state, line)
        for at in range(count):
            word = line[at]
            around = 0
            for near in range(max(0, at - side), min(count, at + side + 1)):
                if near != at:
                    given[around] = line[near]
                    around += 1
            for part in range(begin[word] - 1, begin[word + 1]):
                whole = part < begin[word]
                filled = around
                if not whole:
                    for near in range(max(begin[word], part - beside), min(begin[word + 1], part + beside + 1)):
                        if near != part:
                            given[filled] = ids[near]
                            filled += 1
                if filled == 0:
                    continue
                true = np.int64(word) if whole else np.int64(ids[part])
                x[:], passed[:] = 0, 0
                for slot in range(filled):
                    x += inputs[given[slot]]
                x /= np.float32(filled)
                for k in range(1 + negatives):
                    target = true
                    if k:
                        target = noise(state, word_share, word_other) if whole else first_piece + noise(state, piece_share, piece_other)
                        if target == true:
                            continue
                    score = np.float32(0)
                    for j in range(dim):
                        score += x[j] * outputs[target, j]
                    if not learning:
                        loss += surprise(score if k == 0 else -score)
                        terms += 1
                        continue
                    pull = sigmoid(score) - np.float32(k == 0)
                    for j in range(dim):
                        passed[j] += pull * outputs[target, j]
                        upper[j] = pull * x[j]
                    move(outputs[target], out_squares[target], upper, rate, adagrad)
                if learning:
                    passed /= np.float32(filled)
                    for slot in range(filled):
                        move(inputs[given[slot]], in_squares[given[slot]], passed, rate, adagrad)
    return loss, terms
