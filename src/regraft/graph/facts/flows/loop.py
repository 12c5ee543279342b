"""Each fact against all entities, as a training loop and a loss of PyKEEN's.

Other known tails of the same head and relation count as wrong here, as the paper's code has it; PyKEEN's own "LCWA" takes all of them as
right at once.
"""

from typing import Any

import torch
from pykeen.losses import BCEWithLogitsLoss, loss_resolver
from pykeen.training import TrainingLoop, training_loop_resolver
from torch import Tensor
from torch.nn.functional import one_hot, softplus
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset


class OneVsAllTrainingLoop(TrainingLoop):  # type: ignore[misc]  # PyKEEN has no types
    """PyKEEN finds it as "onevsall". A batch is drawn as one tensor, not row by row."""

    def _create_training_data_loader(self, triples_factory: Any, sampler: Any = None, **how: Any) -> DataLoader[Any]:
        rows = TensorDataset(triples_factory._add_inverse_triples_if_necessary(triples_factory.mapped_triples))
        batches = BatchSampler(RandomSampler(rows), batch_size=how["batch_size"], drop_last=how["drop_last"])
        return DataLoader(rows, sampler=batches, batch_size=None, num_workers=how["num_workers"])

    @staticmethod
    def _get_batch_size(batch: Any) -> int:
        return len(batch[0])

    def _process_batch(self, batch: Any, start: int, stop: int, label_smoothing: float = 0.0, slice_size: int | None = None) -> Tensor:
        rows = batch[0][start:stop].to(self.model.device)
        scores = self.model.score_t(rows[:, :2], slice_size=slice_size, mode=self.mode)
        labels = one_hot(rows[:, 2], scores.shape[1]).to(scores.dtype)
        loss = self.loss.process_lcwa_scores(scores, labels, label_smoothing=label_smoothing, num_entities=scores.shape[1])
        found: Tensor = loss + self.model.collect_regularization_term()
        return found

    def _slice_size_search(self, **given: Any) -> int:
        raise MemoryError("even one fact against all entities does not fit: give a smaller batch or dimension")


class SummedSoftplus(BCEWithLogitsLoss):  # type: ignore[misc]  # PyKEEN has no types
    """sum over entities of softplus((1 - 2y) score), mean over the batch. PyKEEN's "BCEWithLogits" is its mean over entities too."""

    def process_lcwa_scores(
        self,
        predictions: Tensor,
        labels: Tensor,
        label_smoothing: float | None = None,
        num_entities: int | None = None,
        weights: Any = None,
    ) -> Tensor:
        if label_smoothing:
            labels = labels * (1 - label_smoothing) + label_smoothing / predictions.shape[1]
        return (softplus(predictions).sum() - torch.sum(labels * predictions)) / len(predictions)


training_loop_resolver.register(OneVsAllTrainingLoop, raise_on_conflict=False)
loss_resolver.register(SummedSoftplus, raise_on_conflict=False)
