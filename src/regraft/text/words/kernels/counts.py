"""GloVe: the product of two words' vectors with their biases goes to the logarithm of how often they stand together."""

from typing import Any

import numpy as np

from regraft.text.words.kernels.compiled import compiled, move


@compiled
def counts(rows: Any, columns: Any, amounts: Any, tables: Any, squares: Any, rate: Any, most: Any, exponent: Any, learning: Any) -> Any:
    """One pass over counted pairs `rows`, `columns`, `amounts` (n,); `tables` are words, contexts (V, d), and their biases (V, 1) each."""
    words, contexts, word_bias, context_bias = tables
    word_squares, context_squares, word_bias_squares, context_bias_squares = squares
    width = words.shape[1]
    of_word, of_context, of_bias = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(1, np.float32)
    loss = 0.0
    for at in range(len(rows)):
        i, j = rows[at], columns[at]
        word, context = words[i], contexts[j]
        gap = word_bias[i, 0] + context_bias[j, 0] - np.log(amounts[at])
        for k in range(width):
            gap += word[k] * context[k]
        weight = min(np.float32(1), (amounts[at] / most) ** exponent)
        if not learning:
            loss += weight * gap * gap / 2
            continue
        pull = weight * gap
        of_bias[0] = pull
        for k in range(width):
            of_word[k] = pull * context[k]
            of_context[k] = pull * word[k]
        move(word, word_squares[i], of_word, rate, True)
        move(context, context_squares[j], of_context, rate, True)
        move(word_bias[i], word_bias_squares[i], of_bias, rate, True)
        move(context_bias[j], context_bias_squares[j], of_bias, rate, True)
    return loss, len(rows)
