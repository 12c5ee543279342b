"""The module and its loss: closed forms, invariants, gradients; training that goes on after a kill; subspaces."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from regraft.errors import OutputError
from regraft.probe.probes.ast_probe.encoding import NONE, Code, Tree, encode
from regraft.probe.probes.ast_probe.examples import Examples, Labels
from regraft.probe.probes.ast_probe.probe import UNSEEN, SyntaxProbe, label_loss, ranking_loss
from regraft.probe.probes.ast_probe.score import mean_interval, predict, score
from regraft.probe.probes.ast_probe.train import Schedule, fit, tree_loss, validation_loss
from regraft.probe.probes.ast_probe.transfer import direct_transfer, mean_angle, random_angle
from regraft.training.state import FILE

TREE = Tree(
    "module",
    (
        Tree("if_statement", ("if", Tree("call", ("f", "(", ")")), ":", Tree("block", (Tree("pass_statement", ("pass",)),)))),
        Tree("return_statement", ("return", Tree("tuple", ("a", ",", "b")))),
    ),
)  # fmt: skip
CODE = encode(TREE)


def random_codes(count, seed=0):
    """Codes of 1 to 9 tokens."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        n = int(draw.integers(0, 9))
        found.append(
            Code(tuple(draw.permutation(n) + 1.0), tuple(draw.choice(["x", "y", NONE], n)), tuple(draw.choice(["v", NONE], n + 1)))
        )  # fmt: skip
    return found


def packed(codes, width=6, seed=0, labels=None):
    states = torch.randn(sum(len(one.u) for one in codes), width, generator=torch.Generator().manual_seed(seed))
    return Examples.of(codes, states, labels or Labels.of(codes))


def path_of(code, labels):
    """States, and a probe with B = I, whose squared distances are d and whose labels are c and u: one axis a step."""
    n = len(code.d)
    steps = torch.tensor(code.d).sqrt()
    states = torch.zeros(n + 1, n + 1)
    states[:, 0] = 1
    for i in range(n):
        states[i + 1 :, i + 1] = steps[i]
    probe = SyntaxProbe(n + 1, n + 1, len(labels.constituents), len(labels.unary))
    with torch.no_grad():
        probe.B.copy_(torch.eye(n + 1))
        probe.V_c.zero_()
        probe.V_u.zero_()
        probe.V_u[0, labels.unary.index(code.u[0])] = 1
        for i in range(n):
            probe.V_c[i + 1, labels.constituents.index(code.c[i])] = 1
            probe.V_u[i + 1, labels.unary.index(code.u[i + 1])] += 1 / steps[i]
            probe.V_u[i + 1, labels.unary.index(code.u[i])] -= 1 / steps[i]
    return states, probe


def test_states_along_a_path_give_the_tree_back():
    labels = Labels.of([CODE])
    states, probe = path_of(CODE, labels)
    examples = Examples.of([CODE], states, labels)
    scores = probe(examples.states, examples.lengths)
    torch.testing.assert_close(scores.d, examples.heights)
    guess = predict(probe, examples, labels)
    assert (guess[0].c, guess[0].u) == (CODE.c, CODE.u)
    assert score(guess, [CODE]).f1.tolist() == [1.0]
    assert float(probe.off_orthogonal().detach()) == 0
    worse = predict(probe, replace(examples, states=examples.states.flip(0)), labels)
    assert score(worse, [CODE]).f1[0] < 1


def test_the_scores_are_the_papers_formulas_snippet_by_snippet():
    codes = random_codes(12)
    examples = packed(codes)
    probe = SyntaxProbe(6, 4, 3, 2, seed=1)
    found = probe(examples.states, examples.lengths)
    assert [tuple(value.shape) for value in probe.parameters()] == [(6, 4), (4, 3), (4, 2)]
    assert all(value.abs().max() <= 0.05 for value in probe.parameters())
    d, c, u = [], [], []
    for states in torch.split(examples.states, examples.lengths.tolist()):
        for i, h in enumerate(states):
            u.append(h @ probe.B @ probe.V_u)
            if i:
                step = (h - states[i - 1]) @ probe.B
                d.append(step @ step)
                c.append(step @ probe.V_c)
    for ours, theirs in ((found.d, d), (found.c, c), (found.u, u)):
        torch.testing.assert_close(ours, torch.stack(theirs))


def hinge_by_hand(predicted, true):
    """All ordered pairs of all snippets, then one mean."""
    terms = [
        max(0.0, 1 - (p[i] - p[j])) for p, t in zip(predicted, true, strict=True)
        for i in range(len(t)) for j in range(len(t)) if t[i] > t[j]
    ]  # fmt: skip
    return sum(terms) / max(1, len(terms))


def test_the_hinge_is_the_mean_over_all_pairs_of_the_batch():
    draw = np.random.default_rng(0)
    true = [draw.integers(0, 4, n).astype(float).tolist() for n in (5, 0, 1, 9, 2)]
    predicted = [draw.normal(size=len(t)).tolist() for t in true]
    flat = [torch.tensor([x for row in rows for x in row]) for rows in (predicted, true)]
    found = ranking_loss(*flat, [len(t) for t in true])
    assert float(found) == pytest.approx(hinge_by_hand(predicted, true), abs=1e-6)
    by_snippet = np.mean([hinge_by_hand([p], [t]) for p, t in zip(predicted, true, strict=True) if len(t) > 1])
    assert float(found) != pytest.approx(by_snippet, abs=1e-3)  # not the mean of snippets' means


def test_the_hinge_does_not_depend_on_padding():
    d, true = torch.tensor([0.3, 2.0, 1.1]), torch.tensor([1.0, 3.0, 2.0])
    alone = ranking_loss(d, true, [3])
    beside = ranking_loss(torch.cat([d, torch.zeros(40)]), torch.cat([true, torch.ones(40)]), [3, 40])  # a long one that is all ties
    torch.testing.assert_close(alone, beside)
    assert float(ranking_loss(torch.empty(0), torch.empty(0), [0, 0])) == 0


def test_the_hinge_is_zero_where_every_pair_is_ordered_with_a_margin_and_only_there():
    true = torch.tensor([1.0, 4.0, 2.0, 2.0])
    assert float(ranking_loss(torch.tensor([0.0, 2.0, 1.0, 1.0]), true, [4])) == 0
    assert float(ranking_loss(torch.tensor([0.0, 2.0, 1.0, 9.0]), true, [4])) > 0
    assert float(ranking_loss(torch.tensor([0.0, 2.0, 0.99, 1.0]), true, [4])) > 0
    assert float(ranking_loss(torch.tensor([5.0, -2.0]), torch.tensor([3.0, 3.0]), [2])) == 0  # ties do not count


def test_gradients_are_those_of_finite_differences():
    codes = random_codes(5, seed=3)
    examples = packed(codes, width=4)
    probe = SyntaxProbe(4, 3, 3, 2, seed=2).double()
    states = examples.states.double()

    def loss(B, V_c, V_u):
        scores = torch.func.functional_call(probe, {"B": B, "V_c": V_c, "V_u": V_u}, (states, examples.lengths))
        off = (B.T @ B - torch.eye(3, dtype=torch.double)).square().sum()
        return tree_loss(scores, examples) + 5 * off

    inputs = tuple((3 * value.detach()).requires_grad_() for value in probe.parameters())
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-5)


def test_a_rotation_of_states_and_projection_changes_nothing():
    codes = random_codes(6)
    examples = packed(codes)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(5)))
    probe, turned = SyntaxProbe(6, 4, 3, 2), SyntaxProbe(6, 4, 3, 2)
    with torch.no_grad():
        turned.B.copy_(rotation.T @ probe.B)
    before, after = probe(examples.states, examples.lengths), turned(examples.states @ rotation, examples.lengths)
    for name in ("d", "c", "u"):
        torch.testing.assert_close(getattr(before, name), getattr(after, name), atol=1e-6, rtol=1e-4)


def test_unseen_labels_are_left_out_of_the_loss_and_missed():
    labels = Labels.of([Code((1.0,), ("x",), (NONE, NONE))])
    examples = Examples.of([Code((1.0, 2.0), ("new", "x"), (NONE, "v", NONE))], torch.randn(3, 4), labels)
    assert examples.constituents.tolist() == [UNSEEN, labels.constituents.index("x")]
    assert examples.unary.tolist() == [0, UNSEEN, 0]
    scores = torch.randn(2, 2)
    torch.testing.assert_close(
        label_loss(scores, examples.constituents), torch.nn.functional.cross_entropy(scores[1:], examples.constituents[1:])
    )
    assert float(label_loss(scores, torch.tensor([UNSEEN, UNSEEN]))) == 0


def test_batches_take_each_snippet_with_all_of_its_parts():
    codes = random_codes(9)
    examples = packed(codes)
    order = torch.tensor([4, 0, 8, 2, 1, 3, 7, 5, 6])
    parts = list(examples.batches(4, order))
    assert [len(part) for part in parts] == [4, 4, 1]
    rows = torch.split(examples.states, examples.lengths.tolist())
    torch.testing.assert_close(torch.cat([part.states for part in parts]), torch.cat([rows[n] for n in order]))
    assert torch.cat([part.heights for part in parts]).tolist() == [height for n in order for height in codes[n].d]


def learnable(count, seed):
    """Random trees of (d, c, u) that lie along paths of one common space, with noise: what a probe can learn."""
    codes = [code for code in random_codes(3 * count, seed) if code.d][:count]
    labels = Labels.of(random_codes(60))
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for code in codes:
        states = torch.zeros(len(code.u), 12)
        for i, (height, label) in enumerate(zip(code.d, code.c, strict=True)):
            states[i + 1] = states[i]
            states[i + 1, labels.constituents.index(label)] += height**0.5 * (1 if i % 2 else -1)
        states[:, 8] = torch.tensor([1.0 if label == "v" else -1.0 for label in code.u])
        rows.append(states + 0.05 * torch.randn(states.shape, generator=draw))
    return codes, Examples.of(codes, torch.cat(rows), labels), labels


def trained(folder=None, schedule=None, seed=0, **more):
    train, valid = learnable(120, 1)[1], learnable(40, 2)[1]
    probe = SyntaxProbe(12, 6, 3, 2, seed=seed)
    return fit(probe, train, valid, schedule or Schedule(epochs=12, lr=0.02), seed=seed, folder=folder, **more)


def test_training_learns_keeps_the_best_and_ends_orthogonal():
    found = trained(schedule=Schedule(epochs=30, lr=0.02))
    codes, test, labels = learnable(60, 3)
    before = score(predict(SyntaxProbe(12, 6, 3, 2), test, labels), codes).f1.mean()
    after = score(predict(found.probe, test, labels), codes).f1.mean()
    assert after > before + 0.3
    assert found.off_orthogonal**2 < 1e-2
    assert validation_loss(found.probe, learnable(40, 2)[1]) == pytest.approx(min(found.losses[found.warm_up :]), rel=1e-5)


def test_nothing_is_judged_before_the_projection_is_orthogonal():
    few = Schedule(epochs=60, lr=0.02, batch=120, patience=1)  # one step an epoch
    train, valid = (replace(one, states=10 * one.states) for one in (learnable(120, 1)[1], learnable(40, 2)[1]))
    found = fit(SyntaxProbe(12, 6, 3, 2), train, valid, few)
    assert found.warm_up >= 3
    assert max(found.losses[: found.warm_up]) > found.losses[0]  # the loss rises at first: with patience 1 that would have been the end
    assert found.off_orthogonal <= 0.1
    assert validation_loss(found.probe, valid) == pytest.approx(min(found.losses[found.warm_up :]), rel=1e-5)
    loose = fit(SyntaxProbe(12, 6, 3, 2), train, valid, replace(few, orthogonality=0.0))
    assert loose.warm_up == 0


def test_training_stops_after_bad_epochs_and_lowers_its_rate(tmp_path):
    found = trained(tmp_path, schedule=Schedule(epochs=40, lr=30.0, patience=2, orthogonality=0.0))
    assert len(found.losses) < 40
    with safe_open(tmp_path / FILE, "pt") as file:
        counters = json.loads(file.metadata()["counters"])
    judged = found.losses[found.warm_up :]
    bad = sum(loss >= min(judged[:n], default=math.inf) for n, loss in enumerate(judged))
    assert bad >= 2
    assert counters["lr"] == pytest.approx(30.0 * 0.1**bad)


class KilledError(Exception):
    pass


def test_a_killed_training_goes_on_where_it_was(tmp_path, monkeypatch):
    whole = trained()
    looks = iter(range(5))
    real = validation_loss

    def dies(*arguments, **options):
        if next(looks, None) is None:
            raise KilledError
        return real(*arguments, **options)

    monkeypatch.setattr("regraft.probe.probes.ast_probe.train.validation_loss", dies)
    with pytest.raises(KilledError):
        trained(tmp_path / "probe")
    monkeypatch.setattr("regraft.probe.probes.ast_probe.train.validation_loss", real)
    resumed = trained(tmp_path / "probe")
    assert resumed.losses == whole.losses
    for name, value in whole.probe.named_parameters():
        torch.testing.assert_close(getattr(resumed.probe, name), value, atol=0, rtol=0)
    monkeypatch.setattr("regraft.probe.probes.ast_probe.train.tree_loss", lambda *_: pytest.fail("trained again"))
    again = trained(tmp_path / "probe")
    torch.testing.assert_close(again.probe.B, whole.probe.B)
    with pytest.raises(OutputError, match="another run"):
        trained(tmp_path / "probe", schedule=Schedule(epochs=3))
    (tmp_path / "probe" / FILE).write_bytes(b"xx")
    with pytest.raises(OutputError, match="damaged"):
        trained(tmp_path / "probe")


def test_the_module_saves_and_loads_with_the_hosts_calls(tmp_path):
    probe = SyntaxProbe(6, 4, 3, 2, seed=1)
    save_file(probe.state_dict(), tmp_path / "probe.safetensors", metadata={"labels": json.dumps(["x"])})
    other = SyntaxProbe(6, 4, 3, 2, seed=2)
    other.load_state_dict(load_file(tmp_path / "probe.safetensors"))
    torch.testing.assert_close(other.B, probe.B)


def test_angles_between_subspaces_and_transfer():
    one, same, apart = (SyntaxProbe(12, 6, 3, 2, seed=seed) for seed in range(3))
    with torch.no_grad():
        same.B.copy_(one.B @ torch.randn(6, 6))
        one_basis, _ = torch.linalg.qr(one.B, mode="complete")
        apart.B.copy_(one_basis[:, 6:])
    assert mean_angle(one, same) == pytest.approx(0, abs=1e-3)
    assert mean_angle(one, apart) == pytest.approx(90, abs=1e-3)
    assert 40 < random_angle(100, 10) < 90
    learned = trained().probe
    codes, test, labels = learnable(60, 3)
    frozen = direct_transfer(learned, learnable(120, 1)[1], learnable(40, 2)[1], (3, 2), Schedule(epochs=12, lr=0.02), seed=4)
    torch.testing.assert_close(frozen.probe.B, learned.B, atol=0, rtol=0)
    untrained = SyntaxProbe(12, 6, 3, 2, seed=4)
    assert not torch.equal(frozen.probe.V_c, untrained.V_c)
    assert score(predict(frozen.probe, test, labels), codes).f1.mean() > score(predict(untrained, test, labels), codes).f1.mean() + 0.2


def test_the_interval_of_a_mean_holds_it():
    values = np.random.default_rng(0).uniform(size=200)
    low, high = mean_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 200**0.5, rel=0.15)
    assert mean_interval(np.ones(5)) == (1.0, 1.0)
