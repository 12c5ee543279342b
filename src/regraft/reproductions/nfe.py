"""Normalizing flows of knowledge graphs, tested again on small ones: is a spread worth its numbers, and what does scaling add to moving?

The paper has WN18RR, FB15k-237 and YAGO3-10 at 1024 dimensions; here UMLS and Kinships as PyKEEN has them at 128, and CoDEx-S at 64 for a
few epochs. Models have equally many numbers where the paper's code has them so (translations and products: one vector of 2d). All are
trained alike: each fact against all entities, Adam at 0.01 falling by 3 % an epoch, batches of 256 (CoDEx-S: 512), gamma 4, the best epoch
by validation MRR. What is expected was declared below before the run; sizes come from one other seed, which no claim uses.
"""

from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from regraft.evaluation.paired import Sample
from regraft.graph.facts.compare import sample_of
from regraft.graph.facts.data import Facts, open_facts
from regraft.graph.facts.job import spread
from regraft.graph.facts.learning import Learned, Ranks, Schedule, figures, learn, ranks
from regraft.graph.facts.models.nfe import NFE
from regraft.method import resolve
from regraft.progress import step
from regraft.report.figures import bars
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "NFE-1": ("nfe", {"variant": 1}),
    "NFE-2": ("nfe", {"variant": 2}),
    "without uncertainty": ("nfe", {"variant": "point"}),
    "TransE": ("nfe", {"variant": "translation", "dim": 256}),
    "DistMult": ("distmult", {"dim": 256, "loss": "summedsoftplus"}),
}
SCALES: dict[str, Schedule] = {"umls": Schedule(epochs=40), "kinships": Schedule(epochs=30), "codex-s": Schedule(epochs=3, batch=512)}


def claim(what: str, baseline: str, low: float, note: str = "") -> Declared:
    return Declared(what, baseline, Expectation(low=low), metric="MRR", unit="MRR", note=note)


PLAIN, POINT = "TransE", "without uncertainty"
CLAIMS: list[tuple[str, str, Declared]] = [  # data, arm, what is claimed of it
    ("umls", "NFE-1", claim("UMLS: a Gaussian spread costs at most 0.01", POINT, -0.01)),
    ("kinships", "NFE-1", claim("Kinships: a Gaussian spread costs at most 0.01", POINT, -0.01)),
    ("kinships", "NFE-2", claim("Kinships: a slope on each side gains at least 0.02", POINT, 0.02)),
    *((data, arm, claim(f"{data}: {arm} gains at least 0.15 on translations", PLAIN, 0.15))
      for data in ("umls", "kinships") for arm in ("NFE-1", "NFE-2")),
    *((data, arm, claim(f"{data}: {arm} gains at least 0.05 on DistMult", "DistMult", 0.05))
      for data in ("umls", "kinships") for arm in ("NFE-1", "NFE-2")),
    ("codex-s", "NFE-2", claim("CoDEx-S: a slope on each side gains", POINT, 0.0, "Three epochs: which sign, not how much.")),
]  # fmt: skip
SPREAD_CLAIM = Declared(
    "UMLS: entities with more facts are narrower in NFE-1, Spearman at most -0.1", "no relation", Expectation(high=-0.1),
    metric="Spearman", unit="correlation", note="The paper does not say it; expected by those who read it.",
)  # fmt: skip


def reproduce(quick: bool) -> Findings:
    """All of it: about a quarter of an hour on one thread, half a minute with `quick`."""
    seeds = range(1, 2 if quick else 4)
    run = Ledger("")
    rows, pictures = [], {}
    for data, schedule in SCALES.items():
        if quick and data == "codex-s":
            continue
        facts = open_facts(data)
        wanted = {arm for name, arm, _ in CLAIMS if name == data} | {one.baseline for name, _, one in CLAIMS if name == data}
        schedule = Schedule(epochs=4) if quick else schedule
        found: dict[str, list[tuple[Learned, Ranks]]] = {}
        for arm in (name for name in ARMS if name in wanted):
            found[arm] = [trained(arm, facts, schedule, seed) for seed in seeds]
            rows.append(row(data, arm, found[arm]))
        run.data = f"{facts.name}, {len(facts.test):,} held-out facts, both directions"
        how = f"{len(seeds)} seed(s), best of {schedule.epochs} epochs"
        samples = {arm: sample_of([one for _, one in pairs]) for arm, pairs in found.items()}
        for _, arm, declared in (one for one in CLAIMS if one[0] == data):
            run.settle(declared, how, samples[declared.baseline], samples[arm])
        if data == "umls":
            values = np.array([[narrower(facts, learned)] for learned, _ in found["NFE-1"]])
            run.settle(SPREAD_CLAIM, how, by_seed(np.zeros_like(values)), by_seed(values))
        pictures[f"MRR on {data}"] = bars(
            {arm: sample.value for arm, sample in samples.items()}, title="MRR", untouched=PLAIN, ascending=False
        )
    return Findings(NFE.paper, run.claims, {"measured": rows}, {"Held-out facts": rows}, pictures)


def trained(arm: str, facts: Facts, schedule: Schedule, seed: int) -> tuple[Learned, Ranks]:
    name, settings = ARMS[arm]
    small = {"dim": 64} if facts.name == "codex-s" else {}
    with step(f"{facts.name}: {arm}, seed {seed}"):
        learned = learn(resolve("fact-model", name, settings | small), facts, schedule, seed)
        return learned, ranks(learned.model, facts.test, [facts.train, facts.valid])


def row(data: str, arm: str, found: list[tuple[Learned, Ranks]]) -> dict[str, Any]:
    """Means over seeds."""
    each = [figures(one) for _, one in found]
    numbers = sum(one.numel() for one in found[0][0].model.parameters())
    return {"data": data, "model": arm, "numbers": numbers} | {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def narrower(facts: Facts, learned: Learned) -> float:
    """Rank correlation over entities of facts in training and spread."""
    degrees = torch.bincount(torch.cat([facts.train[:, 0], facts.train[:, 2]]), minlength=len(facts.entities))
    wide = spread(learned.model)
    assert wide is not None
    return float(spearmanr(degrees.numpy(), wide.numpy()).statistic)


def by_seed(values: Any) -> Sample:
    """One figure a seed: seeds are drawn again."""
    return Sample(values, np.ones_like(values))
