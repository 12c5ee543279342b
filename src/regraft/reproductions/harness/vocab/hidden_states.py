"""How far a model with new tokens is from the untouched one inside: hidden states where both spellings end at the same byte.

Enters: both models, and documents as lists of `Passage`. Leaves: squared distances and positions, document by document.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.vocab.setting import Subject
from regraft.vocab.initializers.token_distillation.pairing import Passage

CLOSER = Declared(
    "hidden states come at least 30 % closer to those of the old spelling",
    "mean of the old pieces",
    Expectation(high=-0.3),
    metric="mean squared distance of last hidden states to the old spelling's",
    unit="1",
    kind="ratio",
)


def distance(untouched: Subject, subject: Subject, documents: Sequence[Sequence[Passage]]) -> Sample:
    """Squared distance a dimension, summed over the paired positions of each document."""
    sums, counts = [], []
    for found in documents:
        apart = [states(subject, p.new)[p.new_at] - states(untouched, p.old)[p.old_at] for p in found]
        sums.append(float(sum(each.square().mean(1).sum() for each in apart)))
        counts.append(float(sum(len(p.new_at) for p in found)))
    return Sample.of(sums, counts)


def stacked(samples: Sequence[Sample]) -> Sample:
    """Runs on the same documents as one sample, a run a seed."""
    return Sample(np.concatenate([s.amounts for s in samples]), np.concatenate([s.sizes for s in samples]))


def states(subject: Subject, ids: "np.ndarray[Any, Any]") -> torch.Tensor:
    """Last hidden states (length, d) of one sequence."""
    with torch.inference_mode():
        return subject[0].base_model(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0].float()  # type: ignore[no-any-return]
