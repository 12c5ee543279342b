"""The trainer: stages in turn, what learns in each, what is kept between them, and that the best weights stay."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.tables.ctr.models import make_model
from regraft.tables.ctr.training import Best, Schedule, Trainer, labels_of, scores
from regraft.tables.embeddings.dpq import DpqEmbedding
from regraft.tables.embeddings.hash import HashEmbedding
from regraft.tables.fields import FieldTables
from regraft.tables.stages import Stage

SIZES = [30, 20]


@dataclass
class Rows:
    ids: torch.Tensor
    numbers: torch.Tensor
    labels: torch.Tensor

    def __len__(self):
        return len(self.labels)

    def batch(self, rows):
        rows = torch.as_tensor(np.arange(len(self))[rows])
        return self.ids[rows], self.numbers[rows], self.labels[rows]


def rows(count, seed):
    """A label that ids and a number decide."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, size, (count,), generator=draw) for size in SIZES], 1)
    numbers = torch.randn(count, 1, generator=draw)
    return Rows(ids, numbers, ((ids[:, 0] % 3 == 0) ^ (numbers[:, 0] > 0)).float())


TRAIN, VALIDATION = rows(1500, 0), rows(400, 1)


def trainer(method=None, budget=1.0, folder=None, settings=None, seed=0, **schedule):
    torch.manual_seed(seed)
    tables = FieldTables(SIZES, 8, method, budget, **settings or {})
    model = make_model("wdl", tables, 1, hidden=(32,))
    schedule = {"steps": 120, "batch": 100, "rate": 0.01, "evaluations": 4, "seed": seed} | schedule
    return Trainer(model, TRAIN, VALIDATION, Schedule(**schedule), folder)


class _Staged(HashEmbedding):
    """Notes what it is told; its scale is architecture, its shift moves by itself, and it halves after the first stage."""

    name = "staged"
    stages = (Stage("search", 0.5, searches=True), Stage("again", 0.5, fresh=True))

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        share: float = 1,
        halved: bool = False,
        mode: None = None,
        padding_idx: None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, share=share)
        self.halved, self.told = halved, []
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def rows(self, ids):
        return super().rows(ids) * self.scale + self.shift

    def begin(self, stage, steps):
        self.told.append((stage, steps))

    def advance(self, stage, quality):
        self.told.append((stage, round(quality(), 6)))
        if stage == "again":
            return self
        following = type(self)(**self.config() | {"halved": True})
        following.told = self.told
        return following

    def after_step(self):
        assert self.shift.grad is not None
        with torch.no_grad():
            self.shift += 1e-6

    def architecture(self):
        return [self.scale]

    def moved(self):
        return [self.shift]


def test_it_learns_and_keeps_the_best_weights():
    one = trainer(HashEmbedding, 0.7, steps=200, evaluations=8)
    before = one.quality()
    done = one.fit()
    assert before < 0.65 < 0.85 < max(found for _, found in done.curve)
    assert one.quality() == pytest.approx(max(found for _, found in done.curve))
    assert done.training_words == one.model.tables.memory().training_words
    assert done.curve[0][0] == 25


def test_the_same_seed_is_the_same_training():
    first, again, other = (trainer(HashEmbedding, 0.7, seed=seed) for seed in (3, 3, 4))
    curves = [one.fit().curve for one in (first, again, other)]
    assert curves[0] == curves[1] != curves[2]


def test_stages_in_turn():
    one = trainer(_Staged, 0.7)
    begun = {name: value.clone() for name, value in one.begun.items()}
    assert begun
    seen = {}
    step = Trainer._step

    def watched(batch, optimizer):
        if "again" in [name for name, _ in one.model.tables.compressed[0].told] and "fresh" not in seen:
            seen["fresh"] = all(torch.equal(one.model.state_dict()[name], value) for name, value in begun.items())
        step(one, batch, optimizer)

    one._step = watched
    done = one.fit()
    table = one.model.tables.compressed[0]
    told = table.told
    assert [name for name, _ in told] == ["search", "search", "again", "again"]
    assert told[0] == ("search", 60)
    assert seen["fresh"]
    assert table.halved
    assert set(done.seconds) == {"search", "again"}
    assert float(table.scale.detach()) == 1  # no stage that searches, so it stands still
    assert float(table.shift.detach()) == pytest.approx(60e-6, rel=0.01)


def test_architecture_learns_on_validation_rows_only_where_it_is_searched():
    one = trainer(_Staged, 0.7)
    asked = []
    validation = VALIDATION.batch
    one.validation = Rows(VALIDATION.ids, VALIDATION.numbers, VALIDATION.labels)
    one.validation.batch = lambda rows: asked.append(isinstance(rows, slice)) or validation(rows)
    scale = one.model.tables.compressed[0].scale
    one.fit()
    assert asked.count(False) == 60
    assert float(scale.detach()) != 1


def test_it_goes_on_where_it_was_killed(tmp_path):
    whole = trainer(_Staged, 0.7)
    curve = whole.fit().curve

    class KilledError(Exception):
        pass

    one = trainer(_Staged, 0.7, tmp_path / "state")
    stage, begun = Trainer._stage, []

    def killed(number, bar):
        begun.append(number)
        if number == 1:
            raise KilledError
        stage(one, number, bar)

    one._stage = killed
    with pytest.raises(KilledError):
        one.fit()
    assert not list(tmp_path.rglob("*.pt"))
    folder = tmp_path / "state"
    again = trainer(HashEmbedding, 0.7, folder)
    again.stages = _Staged.stages
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regraft.tables.ctr.training.load_table", lambda _: whole.model.tables.tables[0])
        again._resume()
    assert (again.done, again.trained.curve) == (1, curve[:2])
    assert all(torch.equal(again.begun[name], value) for name, value in whole.begun.items())


def test_plain_and_coded_tables_come_back(tmp_path):
    for method, budget, settings in ((None, 1.0, {}), (DpqEmbedding, 0.9, {"centroids": 4})):
        folder = tmp_path / str(method)
        one = trainer(method, budget, folder, settings)
        one._keep()
        again = trainer(method, budget, folder, settings, seed=9)
        again._resume()
        assert np.array_equal(scores(again.model, VALIDATION), scores(one.model, VALIDATION))


def test_patience_ends_the_last_stage():
    one = trainer(steps=1000, evaluations=100, patience=2, rate=0.05)
    curve = one.fit().curve
    assert len(curve) < 100
    best = max(range(len(curve)), key=lambda n: curve[n][1])
    assert best == len(curve) - 3


def test_smaller_tables_begin_a_new_best():
    one = trainer(HashEmbedding, 0.7)
    best = Best()
    best.see(0.9, one.model)
    best.see(0.8, one.model)
    assert (best.auc, best.since) == (0.9, 1)
    smaller = trainer(HashEmbedding, 0.4)
    best.see(0.7, smaller.model)
    assert (best.auc, best.since) == (0.7, 0)


def test_labels_and_settings():
    assert labels_of(VALIDATION).tolist() == VALIDATION.labels.int().tolist()
    for bad in ({"steps": 0}, {"batch": 0}, {"rate": 0.0}, {"patience": -1}):
        with pytest.raises(ParameterError):
            Schedule(**bad)
