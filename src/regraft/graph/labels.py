"""Labels of nodes in a CSV, and how well guesses meet them."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from regraft.errors import InputError
from regraft.graph.edges import Rows


def read_labels(path: str | Path, column: str | None = None) -> dict[str, str]:
    """Labels by node: first column and `column` (else the last) of a CSV with a header; rows without a label are left out.

    Raises `InputError`: no such file or column, a node with two labels, no label at all.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file: give labels as CSV, a node and its class a row")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if len(header) < 2:
            raise InputError(f"{path}: needs a header and two columns or more, a node and its class")
        if column is not None and column not in header:
            raise InputError(f"{path}: no column {column!r}: choose {', '.join(header[1:])}")
        place = len(header) - 1 if column is None else header.index(column)
        found: dict[str, str] = {}
        for number, row in enumerate(rows, 2):
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"{path}, line {number}: {len(row)} columns, the header has {len(header)}")
            if row[place] and found.setdefault(row[0], row[place]) != row[place]:
                raise InputError(f"{path}, line {number}: node {row[0]!r} has two labels, {found[row[0]]!r} and {row[place]!r}")
    if not found:
        raise InputError(f"{path}: no labels")
    return found


def macro_f1(truth: Rows, guess: Rows, classes: Iterable[int]) -> float:
    """Mean over classes of 2 right / (guessed + true); 0 for one that is neither guessed nor there."""
    found = []
    for one in classes:
        both = int(((truth == one) & (guess == one)).sum())
        total = int((truth == one).sum() + (guess == one).sum())
        found.append(2 * both / total if total else 0.0)
    return float(np.mean(found))
