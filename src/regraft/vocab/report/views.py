"""What a reader wants to see of a vocabulary change: how sentences are cut now, and what the new tokens are made of."""

from collections.abc import Sequence

import numpy as np
import torch

from regraft.tokenizer import Tokenizer
from regraft.vocab.job import Job
from regraft.vocab.report.segmentation import Neighbors, Segmentation
from regraft.vocab.transplant.transplant import Transplant

SAMPLES = 6
SAMPLE_CHARACTERS = 240


def sample_segmentations(job: Job, samples: int = SAMPLES) -> list[list[Segmentation]]:
    """Held-out passages as the old and the new tokenizer cut them, new pieces marked."""
    new_ids = frozenset(job.change.new_ids.tolist())
    shown = []
    for text in job.domain[:samples]:
        passage = text[:SAMPLE_CHARACTERS]
        old, new = job.tokenizer.encode(passage), job.change.tokenizer.encode(passage)
        marks = frozenset(i for i, token in enumerate(new) if token in new_ids)
        shown.append([_cut("before", job.tokenizer, old), _cut("after", job.change.tokenizer, new, marks)])
    return shown


def _cut(name: str, tokenizer: Tokenizer, ids: Sequence[int], new: frozenset[int] = frozenset()) -> Segmentation:
    return Segmentation(name, [tokenizer.surface(i) for i in ids], new)


def nearest_old_tokens(job: Job, result: Transplant, tokens: int = 24, neighbors: int = 5) -> list[Neighbors]:
    """The old tokens whose input rows have the largest cosine with those of some new tokens, in blocks of the old table."""
    chosen = result.new_ids[np.linspace(0, len(result.new_ids) - 1, min(tokens, len(result.new_ids))).astype(int)]
    rows = torch.nn.functional.normalize(result.input_rows(chosen), dim=1)
    old_places = np.flatnonzero(job.change.source_ids >= 0)
    old_places = old_places[~np.isin(job.change.source_ids[old_places], list(job.tokenizer.special_ids))]
    scores = torch.cat(
        [
            rows @ torch.nn.functional.normalize(result.input_rows(old_places[start : start + 16384]), dim=1).T
            for start in range(0, len(old_places), 16384)
        ],
        dim=1,
    )
    best = scores.topk(min(neighbors, scores.shape[1]), dim=1)
    surface = job.change.tokenizer.surface
    return [
        Neighbors(surface(int(token)), [(surface(int(old_places[i])), float(s)) for i, s in zip(places, values, strict=True)])
        for token, places, values in zip(chosen, best.indices.tolist(), best.values.tolist(), strict=True)
    ]
