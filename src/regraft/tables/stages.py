"""Stages of a training: what a table does in each, and what follows.

A trainer goes through `FieldTables.stages()` in turn: `begin`, as many steps as its share, `advance`. Between stages the model's other
weights stay as they are, unless a stage begins anew (`fresh`).
"""

from collections.abc import Callable
from dataclasses import dataclass

Quality = Callable[[], float]  # the model as it stands on held-out rows (AUC): greater is better


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : what `begin` and `advance` get. share : of the steps of the whole training.
    searches : whether `architecture()` learns too, on batches of the validation split, in turn with the weights on those of training.
    fresh : whether the whole model starts from the weights that it began with (lottery tickets), the table from what `advance` gave.
    carries : whether the optimizer goes on with the moments that it had at the weights which the stage before ended with.
    still : whether the weights beside the tables stand still.
    """

    name: str
    share: float = 1.0
    searches: bool = False
    fresh: bool = False
    carries: bool = False
    still: bool = False


WHOLE = (Stage("train"),)
