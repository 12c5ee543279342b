"""Tokens that training has hardly touched: their rows say nothing, so nothing should be made of them.

Enters: a table, the ids that are in use and, where there are some, ids that cannot be. Leaves: ids of under-trained tokens.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from regraft.tokenizer import Tokenizer

Ids = npt.NDArray[np.int64]
SHARE = 0.01  # of the tokens, shortest rows
COSINE = 0.5  # at least, to the mean row of what is never used
NEVER_IN_UTF8 = (0xC0, 0xC1, *range(0xF5, 0x100))  # bytes that no Unicode text holds


def undertrained(table: torch.Tensor, tokenizer: Tokenizer) -> Ids:
    r"""Ids of under-trained tokens in `table` (rows, d), ascending; rows past the tokenizer's ids are padding.

    A token is one if its row's length is below the 1 % quantile of all tokens', or if its cosine with :math:`\bar u`, the mean row of what
    is never used, is above the larger of 0.5 and the 99 % quantile. Never used are padding rows, ids without a token, and tokens for bytes
    that no Unicode text holds; without any, length alone decides. Those tokens are themselves under-trained. Special tokens are not judged.
    """
    rows = table.to(torch.float32)
    tokens = np.array(sorted(i for i in tokenizer.pieces if not tokenizer.is_special(i)), dtype=np.int64)
    if not len(tokens):
        return tokens
    judged = rows[torch.from_numpy(tokens)]
    lengths = torch.linalg.vector_norm(judged, dim=1).numpy()
    found = lengths < np.quantile(lengths, SHARE)
    unused = never_used(tokenizer, rows.shape[0])
    if len(unused):
        mean = rows[torch.from_numpy(unused)].mean(0)
        cosines = torch.nn.functional.cosine_similarity(judged, mean.unsqueeze(0), dim=1).numpy()
        found |= cosines > max(COSINE, float(np.quantile(cosines, 1 - SHARE)))
        found |= np.isin(tokens, unused)
    return np.asarray(tokens[found], dtype=np.int64)


def never_used(tokenizer: Tokenizer, rows: int) -> Ids:
    """Rows of a table of `rows` rows that no text can reach: padding, ids without a token, and bytes that are never in UTF-8."""
    empty = [i for i in range(rows) if i not in tokenizer.pieces]
    return np.array(sorted({*empty, *(tokenizer.byte_ids[b] for b in NEVER_IN_UTF8 if b in tokenizer.byte_ids)}), dtype=np.int64)


def name_some(tokenizer: Tokenizer, ids: Sequence[int], most: int = 5) -> str:
    """The first few tokens, for a message."""
    named = ", ".join(repr(tokenizer.surface(int(i)).decode("utf-8", "replace")) for i in ids[:most])
    return named if len(ids) <= most else f"{named}, ..."
