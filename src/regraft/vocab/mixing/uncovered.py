"""New tokens that a method knows nothing of, said to the user before their rows are filled by other means."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError
from regraft.tokenizer.undertrained import name_some
from regraft.vocab.initializer import Context, Target

INSTEAD = {
    "constituent-mean": "they take the mean of their old pieces",
    "normal": "they are drawn at random",
    "unknown": "they take the row of the unknown token",
}


def report_uncovered(
    rows: npt.NDArray[np.int64],
    target: Target,
    context: Context,
    lacking: str,
    remedy: str,
    fallback: Literal["constituent-mean", "normal", "unknown"] = "constituent-mean",
) -> None:
    """One note: for how many new tokens the method has nothing, a few of them by name, and what they get instead.

    Parameters
    ----------
    rows : positions of those tokens in `target`.
    lacking : begins the line: method, and who has no what.
    remedy : what to do.

    Raises `ParameterError` with the `remedy` where they are all of the new tokens, so that nothing of the method would be left.
    """
    if not len(rows):
        return
    names = name_some(target.tokenizer, target.ids[rows].tolist())
    line = f"{lacking} for {len(rows):,} of the {len(target):,} new tokens ({names})"
    if len(rows) == len(target):
        raise ParameterError(f"{line}: {remedy}")
    note = f"{line}: {INSTEAD[fallback]}"
    if note not in context.notes:  # the head's call finds the same
        context.notes.append(note)
