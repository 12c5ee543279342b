"""Training by PyKEEN's loop with an early choice: after each epoch PyKEEN's evaluator ranks the validation facts, and the best state stays.

Ranks are filtered (other known answers do not count) and pessimistic (ties count as lost); both directions of each fact.
"""

import copy
import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regraft.errors import InputError
from regraft.graph.facts.data import Facts
from regraft.graph.facts.model import FactModel
from regraft.progress import Bar, progress_bar

Ranks = npt.NDArray[np.float64]
CUTS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`epochs` of Adam over batches of `batch` facts; `rate` falls by `decay` each epoch. The best epoch of `epochs` is kept."""

    epochs: int = 40
    batch: int = 256
    rate: float = 0.01
    decay: float = 0.97


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained model.

    Attributes
    ----------
    model : PyKEEN's, in the state of its best epoch. curve : (epoch, MRR of validation facts). epoch : the best.
    """

    method: FactModel
    model: Any
    curve: list[tuple[float, float]]
    epoch: int

    @property
    def validation(self) -> float:
        """MRR of validation facts at the best epoch."""
        return max(value for _, value in self.curve)


def learn(method: FactModel, facts: Facts, schedule: Schedule, seed: int = 0) -> Learned:
    """Train `method` on `facts.train`. Raises `InputError` where the loss is no number."""
    from pykeen.training import training_loop_resolver

    triples = facts.factory(method.inverse)
    with torch.random.fork_rng(devices=[]), progress_bar(f"training {method.name}", schedule.epochs, "epochs") as bar:
        model = method.build(triples, seed)
        loop = training_loop_resolver.make(
            method.loop,
            model=model,
            triples_factory=triples,
            optimizer="adam",
            optimizer_kwargs={"lr": schedule.rate},
            lr_scheduler="exponential",
            lr_scheduler_kwargs={"gamma": schedule.decay},
        )
        watch = _watch(facts, bar)
        with _quiet(), _frozen():
            loop.train(triples, num_epochs=schedule.epochs, batch_size=schedule.batch, use_tqdm=False, callbacks=[watch], pin_memory=False)
    model.load_state_dict(watch.kept)
    model.eval()
    return Learned(method, model, watch.curve, watch.epoch)


def ranks(model: Any, rows: Tensor, known: Sequence[Tensor], batch: int = 256) -> Ranks:
    """(2, n) filtered pessimistic ranks of the head and of the tail of each row, by PyKEEN's evaluator; `known` facts are no rivals."""
    from pykeen.evaluation import RankBasedEvaluator

    evaluator = RankBasedEvaluator(filtered=True, metrics=["mrr"], add_defaults=False, clear_on_finalize=False)
    with _quiet():
        evaluator.evaluate(model, rows, batch_size=batch, use_tqdm=False, additional_filter_triples=list(known))
    return np.stack([np.concatenate(evaluator.ranks[side, "pessimistic"]) for side in ("head", "tail")]).astype(np.float64)


def figures(found: Ranks) -> dict[str, float]:
    """What ranks come to, over both directions."""
    hits = {f"hits@{k}": float((found <= k).mean()) for k in (1, 3, 10)}
    return {"mrr": float((1 / found).mean()), **hits, "mean_rank": float(found.mean())}


def hits(found: Ranks, entities: int) -> list[tuple[int, float]]:
    """(k, share of right answers among the first k), up to all of `entities`."""
    return [(k, float((found <= k).mean())) for k in CUTS if k <= entities]


@contextmanager
def _quiet() -> Iterator[None]:
    """PyKEEN warns of every evaluation on a CPU, and of its own call of the scheduler."""
    logger = logging.getLogger("torch_max_mem.api")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The epoch parameter in", UserWarning)
            yield
    finally:
        logger.setLevel(before)


@contextmanager
def _frozen() -> Iterator[None]:
    """PyKEEN collects garbage every epoch: what is there already is left alone, which on small graphs is half of the time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _watch(facts: Facts, bar: Bar) -> Any:
    from pykeen.training import TrainingCallback

    class Watch(TrainingCallback):  # type: ignore[misc]  # PyKEEN has no types
        def __init__(self) -> None:
            super().__init__()
            self.curve: list[tuple[float, float]] = []
            self.best, self.epoch = -1.0, 0
            self.kept: dict[str, Tensor] = {}

        def post_epoch(self, epoch: int, epoch_loss: float, **given: Any) -> None:
            if not np.isfinite(epoch_loss):
                raise InputError(f"epoch {epoch}: the loss is {epoch_loss}: lower --rate")
            found = float((1 / ranks(self.model, facts.valid, [facts.train])).mean())
            self.curve.append((float(epoch), found))
            if found > self.best:
                self.best, self.epoch, self.kept = found, epoch, copy.deepcopy(self.model.state_dict())
            bar.say(f"validation MRR {found:.3f}")
            bar.advance()

    return Watch()
