"""A table with only the rows that a comparison reads: the same results for half the time.

Rows of tokens that occur in no example get no gradient and are never looked up, yet an optimizer's step walks over all of them; in a small
encoder on short texts that is half the work. Enters: the ids in use. Leaves: the model with a small table, and features renumbered to it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regraft.tasks.task import Feature, Task


class Narrowing:
    """Old ids to places in a small table.

    Parameters
    ----------
    ids : in use. Those up to `padding` are always kept, so that the padding id, by which some models count positions, stays what it is.
    """

    def __init__(self, ids: Iterable[int], padding: int = 0) -> None:
        self.kept: npt.NDArray[np.int64] = np.array(sorted({*ids, *range(padding + 1)}), dtype=np.int64)
        self.places = {int(old): new for new, old in enumerate(self.kept)}

    @classmethod
    def of(cls, task: Task, features: Iterable[Feature]) -> "Narrowing":
        """To the ids of `features`, which are all that the model will read."""
        return cls({i for feature in features for i in feature["input_ids"]}, task.padding)

    def features(self, task: Task, features: Sequence[Feature]) -> list[Feature]:
        """The same features with places for ids."""
        return [task.renumber(feature, self.places) for feature in features]

    def narrow(self, model: Any) -> None:
        """Exchange the input table of a `transformers` model for one of shape (kept, d), in place."""
        old = model.get_input_embeddings()
        padding = old.padding_idx if old.padding_idx in self.places else None
        small = torch.nn.Embedding(len(self.kept), old.embedding_dim, None if padding is None else self.places[padding])
        with torch.no_grad():
            small.weight.copy_(old.weight[torch.from_numpy(self.kept)])
        model.set_input_embeddings(small.to(old.weight))
