"""Collisions, norms and angles; tables of each feature into one and back."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.embeddings.robe import RobeEmbedding
from regraft.tables.unified import Feature, UnifiedTable
from regraft.tables.unified.conversion import fill_from, written_out
from regraft.tables.unified.probes import angles, collisions, mean_angle, mean_squared_norm

SIZES = {"user": 900, "item": 300, "hour": 24}


def test_who_meets_whom():
    table = UnifiedTable([Feature(name, size) for name, size in SIZES.items()], 200, 4, exact_below=24)
    found = collisions(table)
    assert found.keys() == {"user", "item"}
    rows = {name: table.places(name, 0, torch.arange(SIZES[name]))[1] for name in found}
    met = (rows["item"][:, None] == rows["item"]).sum() - 300
    assert found["item"].intra == pytest.approx(float(met) / 300)
    assert found["item"].inter == pytest.approx(float((rows["item"][:, None] == rows["user"]).sum()) / 300)
    assert found["item"].expected == 299 / 200
    for one in found.values():
        assert one.intra == pytest.approx(one.expected, rel=0.15)
    with pytest.raises(ParameterError, match="size is needed"):
        collisions(UnifiedTable([Feature("a")], 10, 2))


def test_angles_and_norms():
    weight = torch.tensor([[1.0, 0, 0, 2, 3, 3]])
    assert torch.allclose(angles(weight, [2, 2, 2])[0], torch.tensor([0, 90, 45.0]).double(), atol=1e-5)
    assert mean_angle(weight, [2, 2, 2]) == pytest.approx((90 + 45 + 45) / 3)
    table = UnifiedTable([Feature("a")], 3, 2)
    with torch.no_grad():
        table.tables[0].weight.copy_(torch.tensor([[1.0, 1], [0, 2], [3, 0]]))
    assert mean_squared_norm(table) == pytest.approx(5)
    with pytest.raises(ParameterError, match="equal ones"):
        angles(weight, [4, 2])


def test_training_turns_read_outs_away_from_each_other_the_more_the_fewer_rows():
    """A logistic read-out whose blocks start alike (the card asks for more than 40 degrees)."""
    found = [angle_after_training(rows) for rows in (20, 400)]
    assert found[0] > 40
    assert found[0] > found[1]


def angle_after_training(rows):
    torch.manual_seed(0)
    sizes = [40, 30, 20]
    effects, ids = [torch.randn(size) * 1.5 for size in sizes], torch.stack([torch.randint(0, size, (2000,)) for size in sizes], 1)
    labels = torch.bernoulli(torch.sigmoid(sum(effect[ids[:, place]] for place, effect in enumerate(effects))))
    table = UnifiedTable([Feature(str(place), size) for place, size in enumerate(sizes)], rows, 8)
    read_out = torch.nn.Parameter(torch.full((1, 8), 0.3).repeat(1, 3))
    optimizer = torch.optim.Adam([*table.parameters(), read_out], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        logits = table.concatenated({str(place): ids[:, place] for place in range(3)}) @ read_out.T
        torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels).backward()
        optimizer.step()
    return mean_angle(read_out, [8, 8, 8])


@pytest.mark.parametrize("join", ["concat", "mean"])
def test_tables_of_features_into_one_and_back(join):
    features = [Feature("user", 90, chunks=2, join=join), Feature("item", 30), Feature("hour", 5)]
    table = UnifiedTable(features, 40, 4, tables=2, exact_below=5)
    weights = {one.name: torch.randn(one.size, one.width(4)) for one in features}
    fill_from(table, weights)
    where, places = table.places("item", 0, torch.arange(30))
    row = int(places[0])
    alike = [weights["item"][places == row]]
    for chunk in range(2):
        there, others = table.places("user", chunk, torch.arange(90))
        if there == where:
            part = weights["user"][:, 4 * chunk : 4 * chunk + 4] if join == "concat" else weights["user"]
            alike.append(part[others == row])
    assert torch.allclose(table.tables[where].weight[row], torch.cat(alike).mean(0), atol=1e-6)
    back = written_out(table)
    assert torch.equal(back["hour"], weights["hour"])
    assert torch.allclose(back["user"], table({name: torch.arange(90) % SIZES_OF[name] for name in SIZES_OF})["user"])


SIZES_OF = {"user": 90, "item": 30, "hour": 5}


def test_with_room_nothing_is_lost():
    features = [Feature("user", 9), Feature("item", 5)]
    table = UnifiedTable(features, 2_000, 4)
    assert not any(one.intra or one.inter for one in collisions(table).values())
    weights = {one.name: torch.randn(one.size, 4) for one in features}
    fill_from(table, weights)
    assert all(torch.equal(whole, weights[name]) for name, whole in written_out(table).items())


def test_what_cannot_be_converted():
    with pytest.raises(ParameterError, match="plain rows"):
        fill_from(UnifiedTable([Feature("a", 9)], 9, 4, store=lambda r, d: RobeEmbedding(r, d)), {"a": torch.ones(9, 4)})
    with pytest.raises(ParameterError, match=r"shape \(9, 4\)"):
        fill_from(UnifiedTable([Feature("a", 9)], 9, 4), {"a": torch.ones(8, 4)})
    with pytest.raises(ParameterError, match="size is needed"):
        written_out(UnifiedTable([Feature("a")], 9, 4))
