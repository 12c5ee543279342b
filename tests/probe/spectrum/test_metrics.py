"""As metrics of torchmetrics: collections, batches, types, processes; and as a pass over files."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from regraft.errors import ParameterError
from regraft.method import members, resolve
from regraft.probe.probes.alignment import Alignment
from regraft.probe.probes.average_cosine import AverageCosine
from regraft.probe.probes.lidar import Lidar
from regraft.probe.probes.nesum import NESum
from regraft.probe.probes.rankme import RankMe
from regraft.probe.probes.self_clustering import SelfClustering
from regraft.probe.probes.stable_rank import StableRank
from regraft.probe.probes.uniformity import Uniformity
from regraft.probe.spectrum import spectrum as decomposition
from regraft.probe.spectrum.metric import SpectrumProbe
from regraft.probe.spectrum.profile import profile
from regraft.probe.spectrum.sources.rows import Rows

torch.manual_seed(1)
N, K = 3000, 24
Z = torch.randn(N, K) @ torch.diag(torch.linspace(1, 0.01, K)) + 0.2


def everyone():
    return [cls() for cls in members("probe") if issubclass(cls, SpectrumProbe)]


def test_a_collection_updates_one_for_all_and_decomposes_once(monkeypatch):
    calls = []
    eigvalsh = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda *a, **k: calls.append(1) or eigvalsh(*a, **k))
    decomposition._last.clear()
    together = MetricCollection({metric.name: metric for metric in everyone()})
    for batch in torch.split(Z, 500):
        together.update(batch)
    assert sorted(sorted(group) for group in together.compute_groups.values()) == [
        ["alpha-req", "isoscore", "nesum", "participation-ratio", "pseudo-condition-number", "rankme", "stable-rank"],
        ["average-cosine", "self-clustering"],
    ]
    found = together.compute()
    assert len(calls) == 2  # of Z'Z and of the covariance; directions need none
    for metric in everyone():
        metric.update(Z)
        assert float(found[metric.name]) == pytest.approx(float(metric.compute()), rel=1e-9)
    together.reset()
    together.update(Z[:100])
    assert float(together.compute()["rankme"]) == pytest.approx(float(RankMe()(Z[:100])), rel=1e-9)


def test_a_collection_does_not_merge_what_is_alike_only_at_first():
    unit = torch.nn.functional.normalize(torch.randn(10, K), dim=1)  # its own directions; fewer rows than columns; pairs at no distance
    drawn = {"all": Uniformity(sample=5000), "few": Uniformity(sample=50)}
    pairs = {"plain": RankMe(), "exact": RankMe(exact=True), "turned": SelfClustering(), **drawn}
    together = MetricCollection(pairs)
    together.update(unit)
    together.update(Z[:200])
    assert len(together.compute_groups) == len(pairs)
    for name, metric in pairs.items():
        alone = copy.deepcopy(metric)
        alone.reset()
        alone.update(torch.cat([unit, Z[:200]]))
        if name != "few":  # other rows are drawn
            assert float(together.compute()[name]) == pytest.approx(float(alone.compute()), rel=1e-6)
    two = MetricCollection({"one": Alignment(alpha=1.0), "two": Alignment(alpha=2.0)})
    two.update(unit, unit)
    two.update(Z[:10], unit)
    assert two.compute()["one"] != two.compute()["two"]


@pytest.mark.parametrize("make", [RankMe, NESum, SelfClustering, Uniformity])
def test_forward_is_of_the_batch_and_adds_it(make):
    metric = make()
    for batch in torch.split(Z[:800], 20):  # fewer rows than columns a batch
        assert float(metric(batch)) == pytest.approx(float(make()(batch)), rel=1e-6)
    whole = make()
    whole.update(Z[:800])
    assert float(metric.compute()) == pytest.approx(float(whole.compute()), rel=1e-6)
    if make is not Uniformity:
        assert sum(map(len, getattr(metric, metric._kept))) <= K  # rows do not pile up


def test_forward_keeps_samples_apart():
    views = torch.randn(40, 3, 6, dtype=torch.float64) * 0.1 + torch.randn(40, 1, 6, dtype=torch.float64)
    metric = Lidar()
    for part in torch.split(views, 8):
        metric(part)
    assert float(metric.compute()) == pytest.approx(Lidar().measure(views).value, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_and_does_not_break_the_states(dtype):
    rows = (300 * Z).to(dtype)  # whose squares overflow float16
    exact = RankMe()
    exact.update(rows.double())
    for move in (lambda m: m.to(dtype), lambda m: m.half(), lambda m: m.set_dtype(dtype), lambda m: m):
        metric = move(RankMe())
        for batch in torch.split(rows, 700):
            metric.update(batch)
            metric = move(metric)
        assert metric.gram.dtype == torch.float64
        assert float(metric.compute()) == pytest.approx(float(exact.compute()), rel=1e-9)
    assert RankMe().measure(rows, draws=0).value == pytest.approx(float(exact.compute()), rel=1e-9)


def test_float64_is_needed_and_is_there():
    rows = torch.randn(5000, 10) @ torch.randn(10, 256)
    sigma = torch.linalg.svdvals(rows.double())[:10]
    share = sigma / sigma.sum()
    entropy = float(torch.exp(-(share * share.log()).sum()))
    assert RankMe(epsilon=0.0).measure(rows, draws=0).value == pytest.approx(entropy, rel=1e-6)
    single = torch.linalg.eigvalsh(rows.T @ rows).clamp(min=0).sqrt()
    single = single[single > 0] / single.sum()
    assert float(torch.exp(-(single * single.log()).sum())) > 1.005 * entropy  # what a Gram matrix in float32 would say


def test_they_pickle_clone_and_change_width_is_refused():
    metric = RankMe()
    metric.update(Z)
    again = pickle.loads(pickle.dumps(metric))
    assert float(again.compute()) == float(metric.compute()) == float(metric.clone().compute())
    with pytest.raises(ParameterError, match="rows of 5 columns after rows of 24"):
        metric.update(torch.ones(3, 5))


def test_blocks_give_what_memory_gives(monkeypatch):
    probes = [cls() for cls in members("probe") if issubclass(cls, SpectrumProbe)] + [
        resolve("probe", n) for n in ("coherence", "partition-function")
    ]
    rows = Z.numpy().astype(np.float64)
    u, s, _ = np.linalg.svd(rows, full_matrices=False)
    p = s / s.sum() + 1e-7
    whole = {m.name: m.value for m in profile(probes, rows, draws=0).measurements}
    monkeypatch.setattr("regraft.probe.spectrum.sources.rows.ENTRIES", 1000)
    parts = profile(probes, rows, draws=30)
    for found in parts.measurements:
        assert found.value == pytest.approx(whole[found.name], rel=1e-6)
        if found.name != "coherence":
            assert found.interval[0] < found.value < found.interval[1]
    assert whole["rankme"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert whole["coherence"] == pytest.approx((u**2).sum(1).max() * N / K, rel=1e-6)
    np.testing.assert_allclose(parts.spectrum.singular_values.numpy(), s, rtol=1e-6)


def test_intervals_hold_other_rows_and_the_seed_decides_them():
    rng = np.random.default_rng(0)
    scale = np.linspace(1, 4, 8)
    inside = 0
    truth = RankMe().measure(rng.normal(size=(200_000, 8)) * scale, draws=0).value
    for trial in range(40):
        found = RankMe().measure(rng.normal(size=(1000, 8)) * scale, seed=trial, draws=30)
        inside += found.interval[0] <= truth <= found.interval[1]
    assert 33 <= inside <= 40
    one, same, other = (RankMe().measure(Z, seed=seed, draws=20) for seed in (3, 3, 4))
    assert one == same
    assert one.value == pytest.approx(other.value, rel=1e-12)
    assert one.interval != other.interval
    assert RankMe().measure(Z, draws=0).interval is None


def test_rows_left_out_are_left_out_and_both_figures_are_there(monkeypatch):
    monkeypatch.setattr("regraft.probe.spectrum.sources.rows.ENTRIES", 1000)
    loud = Z.clone()
    loud[[5, 700, 2999]] *= 1000
    found = profile([RankMe(), StableRank(), AverageCosine(), Uniformity()], loud, leave_out=np.array([5, 700, 2999]), draws=5)
    rest = np.delete(Z.numpy(), [5, 700, 2999], axis=0)
    assert (found.rows, found.left_out) == (N - 3, 3)
    for measured in found.measurements[:3]:
        assert measured.value == pytest.approx(resolve("probe", measured.name).measure(rest, draws=0).value, rel=1e-9)
        assert found.everything[measured.name] == pytest.approx(resolve("probe", measured.name).measure(loud, draws=0).value, rel=1e-6)
    with pytest.raises(ParameterError, match="no row is left of 4"):
        profile([RankMe()], Z[:4], leave_out=np.arange(4))


def test_ten_million_rows_are_read_block_by_block():
    largest = []

    def read(start, stop):
        largest.append(stop - start)
        return torch.ones(stop - start, 2) * torch.arange(start, stop)[:, None] % 7

    found = profile([RankMe(), NESum()], Rows("made", 10_000_000, 2, read), draws=0)
    assert max(largest) * 2 <= 1 << 22
    assert sum(largest) == 10_000_000
    assert found.measurements[1].value == pytest.approx(1)


def gathered(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    metrics = [RankMe(), SelfClustering(), Lidar(), Uniformity(sample=10_000), Alignment(), RankMe(exact=True)]
    mine = Z[:1000] if rank == 0 else Z[1000:1700]
    for metric in metrics[:2] + metrics[3:4] + metrics[5:]:
        metric.update(mine)
    metrics[2].update(mine[:600].reshape(-1, 3, K))
    metrics[4].update(mine, mine.flip(0))
    torch.save([float(metric.compute()) for metric in metrics], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_add_up(tmp_path):
    torch.multiprocessing.start_processes(gathered, (str(tmp_path),), nprocs=2, start_method="fork")
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert one == other
    both = Z[:1700]
    partners = torch.cat([Z[:1000].flip(0), Z[1000:1700].flip(0)])
    views = torch.cat([Z[:600], Z[1000:1600]]).reshape(-1, 3, K)
    expected = [RankMe()(both), SelfClustering()(both), Lidar()(views), Uniformity(sample=10_000)(both), Alignment()(both, partners)]
    assert one[:5] == pytest.approx([float(value) for value in expected], rel=1e-9)
    assert one[5] == pytest.approx(one[0], rel=1e-5)
