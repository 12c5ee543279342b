"""Normalizing flows and rules: do the learned maps of relations say which are symmetric, which lead back, and which are two others?

The paper shows that its flows can express symmetry, inversion and composition; here it is looked for in what they learn. 144 places on a
grid have 11 relations: six steps, three mirrors and two without a rule; a quarter of the facts is held out, each following from one that is
left, backwards. A rule counts as named where the gap between both sides of it (see `regraft.graph.facts.rules`) is the least of all that
could stand there: a symmetric relation against those that are not, the relation that leads back among ten, the two that make a third among
ninety pairs. Models have equally many numbers; each takes the best of its epochs by validation MRR. What is expected was declared below
before the full run; sizes of training, and the rules that are asked for, come from a look at one seed of an earlier draw of such facts.
"""

from typing import Any

import numpy as np
import torch

from regraft.evaluation.paired import Sample
from regraft.graph.facts.compare import sample_of
from regraft.graph.facts.learning import Ranks, Schedule, figures, learn, ranks
from regraft.graph.facts.models.nfe import NFE
from regraft.graph.facts.rules import Maps
from regraft.method import resolve
from regraft.progress import step
from regraft.report.figures import bars
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.graph.made_rules import MadeFacts, grid
from regraft.reproductions.harness.record import Findings, Ledger

DIM = 64
ARMS: dict[str, tuple[str, dict[str, Any], Schedule]] = {
    "NFE-1": ("nfe", {"variant": 1}, Schedule(epochs=200, rate=0.1, decay=0.98)),
    "NFE-2": ("nfe", {"variant": 2}, Schedule(epochs=200, rate=0.1, decay=0.98)),
    "RotatE": ("rotate", {}, Schedule(epochs=20, rate=0.03, decay=0.98)),
}
UNTRAINED = "NFE-1 before training"
KINDS = ("symmetry", "inversion", "composition")
NAMED: dict[str, Any] = {"metric": "rules named", "unit": "share"}
CLAIMS = {
    "symmetry": Declared(
        "NFE-1 names half of the symmetric relations, or more, beyond its start", UNTRAINED, Expectation(low=0.5), **NAMED
    ),
    "inversion": Declared(
        "NFE-1 names half of the relations that lead back, or more, beyond its start", UNTRAINED, Expectation(low=0.5), **NAMED
    ),
    "composition": Declared("NFE-1 names half of the compositions, or more, beyond its start", UNTRAINED, Expectation(low=0.5), **NAMED),
}
BESIDE = Declared("NFE-1 names no fewer rules than rotations, by a tenth", "RotatE", Expectation(low=-0.1), **NAMED)
WIDER = Declared("a slope on each side names no fewer rules than one, by a tenth", "NFE-1", Expectation(low=-0.1), **NAMED)
HELD = Declared("facts that follow: NFE-1 is at most 0.05 behind rotations", "RotatE", Expectation(low=-0.05), metric="MRR", unit="MRR")


def reproduce(quick: bool) -> Findings:
    """All of it: two processor minutes, a third of one with `quick`."""
    seeds = range(1, 2 if quick else 4)
    named: dict[str, list[dict[str, np.ndarray[Any, Any]]]] = {}
    held: dict[str, list[Ranks]] = {}
    for seed in seeds:
        made = grid(6 if quick else 12, seed=seed)
        for arm, (name, settings, schedule) in ARMS.items():
            with step(f"{arm}, seed {seed}"):
                learned = learn(resolve("fact-model", name, settings | {"dim": DIM}), made.facts, schedule, seed)
            named.setdefault(arm, []).append(rules_named(made, learned.model))
            held.setdefault(arm, []).append(ranks(learned.model, made.facts.test, [made.facts.train, made.facts.valid]))
        start = resolve("fact-model", "nfe", {"variant": 1, "dim": DIM}).build(made.facts.factory(True), seed)
        named.setdefault(UNTRAINED, []).append(rules_named(made, start))
    run, how = Ledger(f"{len(made.facts.entities)} places, 11 relations"), f"{len(seeds)} seed(s)"
    for kind, declared in CLAIMS.items():
        run.settle(declared, f"{kind}, {how}", one_kind(named[UNTRAINED], kind), one_kind(named["NFE-1"], kind))
    for declared, arm in ((BESIDE, "NFE-1"), (WIDER, "NFE-2")):
        run.settle(declared, f"all rules, {how}", every_kind(named[declared.baseline]), every_kind(named[arm]))
    run.settle(HELD, f"{len(made.facts.test)} held-out facts, {how}", sample_of(held["RotatE"]), sample_of(held["NFE-1"]))
    rows = [row(arm, found, held.get(arm)) for arm, found in named.items()]
    picture = bars(
        {arm: every_kind(found).value for arm, found in named.items()}, title="share of rules named", untouched=UNTRAINED, ascending=False
    )
    return Findings(NFE.paper, run.claims, {"measured": rows}, {"Rules named": rows}, {"Rules named": picture})


@torch.no_grad()
def rules_named(made: MadeFacts, model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Of each kind of rule, which hold and are named: (rules,) of 0 and 1."""
    maps = Maps.of(model)
    assert maps is not None
    twice, back, after = (one.numpy().copy() for one in (maps.symmetry(), maps.inversions(), maps.compositions()))
    own = np.arange(len(twice))
    back[own, own] = np.inf
    after[own, :, own] = after[:, own, own] = after[own, own] = np.inf
    thirds = np.flatnonzero(made.composed.any((0, 1)))
    pairs = [divmod(int(after[:, :, k].argmin()), len(own)) for k in thirds]
    return {
        "symmetry": np.array([float(twice[r] < twice[~made.symmetric].min()) for r in np.flatnonzero(made.symmetric)]),
        "inversion": np.array([float(made.inverse[r, back[r].argmin()]) for r in np.flatnonzero(made.inverse.any(1))]),
        "composition": np.array([float(made.composed[i, j, k]) for k, (i, j) in zip(thirds, pairs, strict=True)]),
    }


def one_kind(found: list[dict[str, np.ndarray[Any, Any]]], kind: str) -> Sample:
    """A rule a document, a seed a row."""
    amounts = np.stack([one[kind] for one in found])
    return Sample(amounts, np.ones_like(amounts))


def every_kind(found: list[dict[str, np.ndarray[Any, Any]]]) -> Sample:
    """All rules."""
    amounts = np.stack([np.concatenate([one[kind] for kind in KINDS]) for one in found])
    return Sample(amounts, np.ones_like(amounts))


def row(arm: str, found: list[dict[str, np.ndarray[Any, Any]]], held: list[Ranks] | None) -> dict[str, Any]:
    """Means over seeds."""
    reached = {} if held is None else figures(np.stack(held))
    return (
        {"model": arm}
        | {kind: one_kind(found, kind).value for kind in KINDS}
        | {name: reached.get(name) for name in ("mrr", "hits@1", "hits@3")}
    )
