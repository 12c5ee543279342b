from dataclasses import replace

import numpy as np
import pytest
import torch

from regraft.comparison import Kept
from regraft.errors import ParameterError
from regraft.tasks import runs
from regraft.tasks.parallel import MOST, room, spread
from regraft.tasks.runs import Run, f1_sample, measure, micro_f1
from regraft.vocab.initializers.k_tokeniser import KTokeniserStart
from regraft.vocab.tasks import Curves, FineTuning, Plan, Subject, Tagging
from regraft.vocab.tasks.learning_curve import RUNS

TUNING = FineTuning(steps=12, batch_size=8, lr=3e-3)


def curves(subject, data, names, **plan):
    task = Tagging.of(data["tagging"])
    return Curves(subject, data["tagging"], task, [subject.arm(name) for name in names], Plan(tuning=TUNING, **plan))


def test_f1_by_hand():
    counts = np.array([[2, 1, 0], [0, 0, 3], [1, 0, 0]])
    assert micro_f1(counts) == pytest.approx(6 / 10)
    run = Run("a", 1.0, 0, counts, 0.0)
    assert f1_sample([run, run]).value == pytest.approx(run.f1)
    assert micro_f1(np.zeros((2, 3), dtype=np.int64)) == 0
    assert f1_sample([Run("a", 1.0, 0, np.zeros((2, 3), dtype=np.int64), 0.0)]).value == 0


def test_a_larger_share_holds_the_smaller_ones(data):
    examples = data["tagging"]
    order = examples.order(0)
    assert sorted(order) == list(range(len(examples.train)))
    assert order == examples.order(0) != examples.order(1)


def test_without_choices_the_tokenizer_and_so_the_score_is_base(subject, data):
    # phi = 0 takes the base tokenizer always: whatever the new rows, not one number may differ
    same = Subject(subject.checkpoint, subject.tokenizer, subject.ontologies, KTokeniserStart(h0_count=2, phi=0))
    points = curves(same, data, ("base", "k-tokeniser", "random-rows"), shares=(0.3, 1.0), seeds=1).run()
    for share in (0.3, 1.0):
        base, *others = [point for point in points if point.share == share]
        assert base.effect is None
        for point in others:
            assert point.f1_by_seed == base.f1_by_seed
            assert (point.effect.effect, point.effect.low, point.effect.high) == (0, 0, 0)


def test_points_follow_from_the_runs(subject, data):
    made = curves(subject, data, ("base", "k-tokeniser"), shares=(0.5, 1.0), seeds=2)
    points = made.run()
    assert [(point.arm, point.examples) for point in points] == [("base", 20), ("k-tokeniser", 20), ("base", 40), ("k-tokeniser", 40)]
    assert len(made.runs) == 8
    for point in points:
        runs = made.of(point.arm, point.share)
        assert [run.seed for run in runs] == [0, 1]
        assert point.f1 == pytest.approx(np.mean([micro_f1(run.counts) for run in runs]))
        assert point.interval[0] <= point.f1 <= point.interval[1]
    base, k = points[2:]
    assert k.effect.effect == pytest.approx(k.f1 - base.f1)
    assert max(base.f1, k.f1) > 0.2  # something was learned


def test_finished_runs_are_not_repeated(subject, data, tmp_path, monkeypatch):
    first = curves(subject, data, ("base", "k-tokeniser"), shares=(1.0,), seeds=1)
    points = first.run(Kept(tmp_path, RUNS))
    monkeypatch.setattr(runs, "fine_tune", lambda *a, **k: pytest.fail("trained again"))
    again = curves(subject, data, ("base", "k-tokeniser"), shares=(1.0,), seeds=1).run(Kept(tmp_path, RUNS))
    assert [point.row() for point in again] == [point.row() for point in points]
    other = Subject(subject.checkpoint, subject.tokenizer, subject.ontologies, KTokeniserStart(h0_count=2, phi=0))
    keys = [made.key(made.arms[1], 1.0, 0) for made in (first, curves(other, data, ("base", "k-tokeniser")))]
    assert keys[0] != keys[1]
    assert first.key(first.arms[0], 1.0, 0) != first.key(first.arms[0], 1.0, 1)
    tagged = data["tagging"]
    changed = tuple(replace(one, tags=("O",) * len(one.tags)) for one in tagged.train[:3]) + tuple(tagged.train[3:])
    assert changed != tagged.train
    relabelled = curves(subject, data | {"tagging": replace(tagged, train=changed)}, ("base", "random-rows"), shares=(1.0,))
    assert first.key(first.arms[0], 1.0, 0) != relabelled.key(relabelled.arms[0], 1.0, 0)  # the same texts, other labels


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_processes_beside_each_other_find_the_same(subject, data, two_threads):
    apart = curves(subject, data, ("base", "random-rows"), shares=(0.5,), seeds=2)
    apart.run()
    one_by_one = [measure(apart.job(arm, share, seed)) for seed, share, arm in apart.planned()]
    assert [(run.arm, run.seed) for run in apart.runs] == [(run.arm, run.seed) for run in one_by_one]
    for run, alone in zip(apart.runs, one_by_one, strict=True):
        assert np.abs(run.counts - alone.counts).sum() <= 1  # two threads add in another order than one
        assert run.seconds > 0


def test_there_is_room_for_as_many_as_threads_and_memory_allow(monkeypatch, two_threads):
    assert room("cpu", 10**9) == 2
    assert room("mps", 1) == 1
    free = {"bytes": 8 << 30}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free["bytes"], 80 << 30))
    torch.set_num_threads(6)
    assert room("cuda", 22_000_000) == 4  # 1 GiB and 0.7 GB each
    assert room("cuda:1", 10**9) == 1
    free["bytes"] = 80 << 30
    assert room("cuda", 22_000_000) == 6
    assert MOST >= 6


def test_what_fails_in_a_process_is_said_here():
    def fails_at_two(number):
        if number == 2:
            raise ParameterError("two is too much")
        return 10 * number

    for workers in (1, 2):
        found = []
        with pytest.raises(ParameterError, match="two is too much"):
            found.extend(spread(fails_at_two, range(4), workers))
        assert found == ([0, 10] if workers == 1 else [0, 10][: len(found)])  # beside each other, the failure may come first


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"shares": ()}, "--shares"),
        ({"shares": (0.5, 0.1)}, "ascending"),
        ({"shares": (0.0,)}, "--shares 0"),
        ({"shares": (1.2,)}, "--shares 120"),
        ({"seeds": 0}, "--seeds 0"),
    ],
)
def test_plan_that_means_nothing_is_refused(wrong, said):
    with pytest.raises(ParameterError, match=said):
        Plan(**wrong)
