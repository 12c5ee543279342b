"""Methods of several stages under the trainer: a second pass over a batch, searches, sizes within what was asked."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from regraft.tables.ctr.models import make_model
from regraft.tables.ctr.training import Schedule, Trainer
from regraft.tables.embeddings.alpt import AlptEmbedding
from regraft.tables.embeddings.auto_dim import AutoDimEmbedding
from regraft.tables.embeddings.auto_srh import AutoSrhEmbedding
from regraft.tables.embeddings.deep_light import DeepLightEmbedding
from regraft.tables.embeddings.opt_embed import OptEmbedEmbedding
from regraft.tables.embeddings.pep import PepEmbedding
from regraft.tables.fields import FieldTables
from regraft.tables.search.evolution import Evolution

SIZES = [30, 20]


@dataclass
class Rows:
    """A label that the first field decides."""

    seed: int
    count: int

    def __post_init__(self):
        draw = torch.Generator().manual_seed(self.seed)
        self.ids = torch.stack([torch.randint(0, size, (self.count,), generator=draw) for size in SIZES], 1)

    def __len__(self):
        return self.count

    def batch(self, rows):
        ids = self.ids[torch.as_tensor(np.arange(self.count)[rows])]
        return ids, torch.zeros(len(ids), 0), (ids[:, 0] % 3 == 0).float()


def trained(method, budget, **settings):
    torch.manual_seed(0)
    counts = [torch.arange(size, 0, -1) for size in SIZES] if method.counts_rows else None
    model = make_model("wdl", FieldTables(SIZES, 8, method, budget, counts=counts, **settings), hidden=(16,))
    one = Trainer(model, Rows(0, 1500), Rows(1, 400), Schedule(steps=80, batch=100, rate=0.02, evaluations=4))
    one.fit()
    return one


def test_steps_of_alpt_learn_in_a_second_pass():
    one = trained(AlptEmbedding, 0.45, step_rate=1e-3)
    assert one.quality() > 0.9
    for table in one.model.tables.compressed:
        assert (table.steps != 0.01).float().mean() > 0.8
        assert set(table.state_dict()) == {"codes", "steps"}


METHODS = {
    OptEmbedEmbedding: {"evolution": Evolution(generations=3, keep=2, mutations=4, crossings=4)},
    AutoDimEmbedding: {},
    DeepLightEmbedding: {},
    PepEmbedding: {},
    AutoSrhEmbedding: {},
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_what_is_found_is_small_and_tells_clicks_apart(method):
    one = trained(method, 0.5, **METHODS[method])
    assert one.model.tables.memory().serving_words <= 0.5 * sum(SIZES) * 8
    assert one.trained.training_words >= sum(SIZES) * 8
    assert one.quality() > 0.9


def test_moments_go_on_and_the_rest_stands_still(tmp_path):
    def begun(method, folder=None, **settings):
        torch.manual_seed(0)
        counts = [torch.arange(size, 0, -1) for size in SIZES] if method.counts_rows else None
        model = make_model("wdl", FieldTables(SIZES, 8, method, 0.5, counts=counts, **settings), hidden=(16,))
        return Trainer(model, Rows(0, 1500), Rows(1, 400), Schedule(steps=40, batch=100, rate=0.02, evaluations=4), folder)

    def head(one):
        return torch.cat([value.detach().flatten().clone() for name, value in one.model.named_parameters() if "tables" not in name])

    whole = begun(DeepLightEmbedding)
    whole.fit()
    stopped = begun(DeepLightEmbedding, tmp_path / "state")
    stopped._stage(0, _Bar())
    stopped.done = 1
    stopped._keep()
    moments = stopped.moments
    assert len(moments) == len(list(stopped.model.parameters()))
    on = begun(DeepLightEmbedding, tmp_path / "state")
    on.fit()
    for place, own in moments.items():
        for name, value in own.items():
            assert torch.equal(value, stopped.moments[place][name])
    assert torch.equal(head(on), head(whole))
    assert float(moments[0]["step"]) > 0

    still = begun(AutoSrhEmbedding, penalty=0.1, pruned="after")
    still._stage(0, _Bar())
    before, table = head(still), still.model.tables.tables[0]
    rows, scales = table.weight.detach().clone(), table.scales.detach().clone()
    assert torch.equal(scales, torch.ones_like(scales))
    still._stage(1, _Bar())
    assert torch.equal(head(still), before)
    assert not torch.equal(table.weight, rows)
    assert (table.scales < 1).any()
    assert ((table.scales >= 0) & (table.scales <= 1)).all()
    searched = table.scales.detach().clone()
    still._stage(2, _Bar())
    assert not torch.equal(head(still), before)
    assert torch.equal(table.scales, searched)


class _Bar:
    def advance(self):
        pass

    def say(self, _):
        pass
