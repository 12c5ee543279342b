"""Training of a click model through the stages of its tables.

Enters: a model, rows of clicks, how long. Leaves: the model as it serves, the curve of validation AUC, what each stage took. A stage ends
with the weights that were best on the validation rows; a training that was killed goes on with the stage that it was in.
"""

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from regraft.errors import ParameterError
from regraft.output import atomic_directory
from regraft.progress import Bar, progress_bar
from regraft.tables.ctr.measure import auc
from regraft.tables.ctr.models import CtrModel
from regraft.tables.embedding import CompressedEmbedding, load_table
from regraft.tables.stages import Stage

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # ids (b, fields), numbers (b, k), labels (b,)
SCORED = 8192  # rows a batch where nothing is learned
HEAD, BEGUN, MOMENTS, ABOUT, TABLES = "head.safetensors", "begun.safetensors", "moments.safetensors", "progress.json", "tables"
Moments = dict[int, dict[str, torch.Tensor]]  # of an optimizer, by the place of the parameter


class Rows(Protocol):
    """Rows of one split."""

    def __len__(self) -> int: ...
    def batch(self, rows: npt.NDArray[np.integer] | slice) -> Batch: ...


@dataclass(frozen=True)
class Schedule:
    """How long is trained, and how.

    Attributes
    ----------
    steps : of all stages together. batch, rate : of Adam, for weights; rate_architecture : of SGD, for what
        searching stages learn.
    evaluations : how often validation rows are scored in all. patience : evaluations without a better AUC after which the last stage ends;
        0 never. seed : of the order of rows.
    """

    steps: int = 1000
    batch: int = 1024
    rate: float = 1e-3
    rate_architecture: float = 1e-3
    evaluations: int = 20
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.evaluations < 1 or self.patience < 0:
            raise ParameterError("training needs at least 1 step, a batch of 1 row and 1 evaluation")
        if not (self.rate > 0 and self.rate_architecture > 0):
            raise ParameterError("learning rates must be above 0")

    @property
    def every(self) -> int:
        """Steps between evaluations."""
        return max(1, self.steps // self.evaluations)


@dataclass
class Trained:
    """What happened: (step, validation AUC), seconds and words held in training by stage."""

    curve: list[tuple[float, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    words: dict[str, float] = field(default_factory=dict)

    @property
    def training_words(self) -> float:
        """The most that the tables held, without gradients and moments."""
        return max(self.words.values())


@dataclass
class Best:
    """The weights that were best on validation rows, among those of tables as small as the last ones."""

    auc: float = -1.0
    words: float = float("inf")
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    moments: Moments = field(default_factory=dict)
    since: int = 0  # evaluations

    def see(self, found: float, model: CtrModel, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Remember the weights if they are the best so far, and the moments of `optimizer` with them."""
        words = model.tables.memory().serving_words
        if found <= self.auc and words >= self.words:
            self.since += 1
            return
        self.auc, self.words, self.since = found, words, 0
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.moments = copy.deepcopy(optimizer.state_dict()["state"]) if optimizer is not None else {}


class Trainer:
    """Trains `model` on `train`, with `validation` for the choice of weights and for what stages search.

    folder : where the state between stages is kept, and found again.
    """

    def __init__(self, model: CtrModel, train: Rows, validation: Rows, schedule: Schedule, folder: Path | None = None) -> None:
        self.model, self.train, self.validation, self.schedule, self.folder = model, train, validation, schedule, folder
        self.stages = model.tables.stages()
        self.begun = {name: value.detach().clone() for name, value in _head(model).items()} if any(s.fresh for s in self.stages) else {}
        self.moments: Moments = {}
        self.done, self.trained = 0, Trained()

    def fit(self) -> Trained:
        """All stages that are not done yet; the model then has its tables as they serve."""
        self._resume()
        total = sum(self._steps(stage) for stage in self.stages)
        with progress_bar("training", total=total, unit="steps") as bar:
            bar.update(sum(self._steps(stage) for stage in self.stages[: self.done]), total)
            for number in range(self.done, len(self.stages)):
                self._stage(number, bar)
                self.done = number + 1
                self._keep()
        self.model.tables.export()
        self.model.eval()
        return self.trained

    def _stage(self, number: int, bar: Bar) -> None:
        stage, tables = self.stages[number], self.model.tables
        if stage.fresh:
            self.model.load_state_dict(self.begun, strict=False)
        start, steps, best = time.perf_counter(), self._steps(stage), Best()
        torch.manual_seed(self.schedule.seed + number)
        tables.set_rate(self.schedule.rate)
        tables.begin(stage.name, steps)
        weights, architecture = self._optimizers(stage)
        carried = weights if any(one.carries for one in self.stages[number + 1 : number + 2]) else None  # what the next stage goes on with
        batches = _batches(self.train, self.schedule.batch, self.schedule.seed + 1000 * number)
        searched = _batches(self.validation, self.schedule.batch, self.schedule.seed + 1000 * number + 1)
        before = sum(self._steps(one) for one in self.stages[:number])
        self._remember_words(stage)
        for step in range(1, steps + 1):
            batch = next(batches)
            self._step(batch, weights)
            tables.after_step()
            if tables.again():
                self._step(batch, None)
                tables.after_step()
            if architecture is not None:
                self._step(next(searched), architecture)
            bar.advance()
            if step % self.schedule.every == 0 or step == steps:
                found = self.quality()
                self._remember_words(stage)
                self.trained.curve.append((float(before + step), found))
                bar.say(f"{stage.name}, validation AUC {found:.4f}")
                if not stage.searches:
                    best.see(found, self.model, carried)
                if self._may_stop(number) and 0 < self.schedule.patience <= best.since:
                    break
        if best.weights:
            self.model.load_state_dict(best.weights)
        self.moments = best.moments
        tables.advance(stage.name, self.quality)
        self.trained.seconds[stage.name] = time.perf_counter() - start

    def _step(self, batch: Batch, optimizer: torch.optim.Optimizer | None) -> None:
        self.model.train()
        ids, numbers, labels = batch
        for parameter in self.model.parameters():
            parameter.grad = None
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(ids, numbers), labels) + self.model.tables.extra_loss()
        loss.backward()  # type: ignore[no-untyped-call]
        if optimizer is not None:
            optimizer.step()

    def _optimizers(self, stage: Stage) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer | None]:
        """One for weights; in stages that search one for the architecture, which otherwise stands still."""
        tables = self.model.tables
        architecture = tables.architecture()
        apart = {id(parameter) for parameter in [*architecture, *tables.moved()]}
        all_weights = tables.parameters() if stage.still else self.model.parameters()
        weights = torch.optim.Adam((one for one in all_weights if id(one) not in apart), lr=self.schedule.rate)
        if stage.carries and self.moments:
            weights.load_state_dict(weights.state_dict() | {"state": self.moments})
        search = torch.optim.SGD(architecture, lr=self.schedule.rate_architecture) if stage.searches and architecture else None
        return weights, search

    def _may_stop(self, number: int) -> bool:
        """Only the last stage, and only once the tables are what they are to be."""
        tables = self.model.tables
        return number == len(self.stages) - 1 and tables.memory().serving_words <= tables.allowed

    def _steps(self, stage: Stage) -> int:
        return max(1, round(stage.share * self.schedule.steps))

    def quality(self) -> float:
        """AUC of the model as it stands on validation rows."""
        return auc(scores(self.model, self.validation), labels_of(self.validation))

    def _remember_words(self, stage: Stage) -> None:
        words = self.model.tables.memory().training_words
        self.trained.words[stage.name] = max(words, self.trained.words.get(stage.name, 0.0))

    # between stages

    def _keep(self) -> None:
        if self.folder is None:
            return
        with atomic_directory(self.folder, overwrite=True) as folder:
            save_file({name: value.contiguous() for name, value in _head(self.model).items()}, folder / HEAD)
            save_file(self.begun, folder / BEGUN)
            save_file({f"{place} {name}": value for place, own in self.moments.items() for name, value in own.items()}, folder / MOMENTS)
            for place, table in enumerate(self.model.tables.tables):
                (folder / TABLES / str(place)).mkdir(parents=True)
                if isinstance(table, CompressedEmbedding):
                    table.save(folder / TABLES / str(place))
                else:
                    save_file(table.state_dict(), folder / TABLES / str(place) / HEAD)
            about = {"done": self.done, "curve": self.trained.curve, "seconds": self.trained.seconds, "words": self.trained.words}
            (folder / ABOUT).write_text(json.dumps(about), "utf-8")

    def _resume(self) -> None:
        if self.folder is None or not (self.folder / ABOUT).is_file():
            return
        about: dict[str, Any] = json.loads((self.folder / ABOUT).read_text("utf-8"))
        tables = self.model.tables.tables
        for place in range(len(tables)):
            folder = self.folder / TABLES / str(place)
            if (folder / HEAD).is_file():
                tables[place] = _plain(load_file(folder / HEAD)["weight"])
            else:
                tables[place] = load_table(folder)
        self.model.load_state_dict(load_file(self.folder / HEAD), strict=False)
        self.begun, self.moments = load_file(self.folder / BEGUN), {}
        for key, value in load_file(self.folder / MOMENTS).items():
            parameter, name = key.split()
            self.moments.setdefault(int(parameter), {})[name] = value
        self.done = about["done"]
        self.trained = Trained([(x, y) for x, y in about["curve"]], about["seconds"], about["words"])


@torch.no_grad()
def scores(model: CtrModel, rows: Rows) -> npt.NDArray[np.float32]:
    """Logits (n,) of `rows`."""
    was = model.training
    model.eval()
    starts = range(0, len(rows), SCORED)
    found = torch.cat([model(*rows.batch(slice(start, start + SCORED))[:2]) for start in starts])
    model.train(was)
    return np.asarray(found.float().numpy())


def labels_of(rows: Rows) -> npt.NDArray[np.uint8]:
    """Labels (n,) of `rows`."""
    starts = range(0, len(rows), SCORED)
    return torch.cat([rows.batch(slice(start, start + SCORED))[2] for start in starts]).numpy().astype(np.uint8)


def _batches(rows: Rows, size: int, seed: int) -> Iterator[Batch]:
    """Epoch after epoch in new orders, without the rest that fills no batch."""
    generator = np.random.default_rng(seed)
    size = min(size, len(rows))
    while True:
        order = generator.permutation(len(rows)).astype(np.int32)
        for start in range(0, len(rows) - size + 1, size):
            yield rows.batch(order[start : start + size])


def _head(model: CtrModel) -> dict[str, torch.Tensor]:
    """The weights beside the tables."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("tables.")}


def _plain(weight: torch.Tensor) -> nn.Embedding:
    return nn.Embedding(weight.shape[0], weight.shape[1], _weight=weight)
