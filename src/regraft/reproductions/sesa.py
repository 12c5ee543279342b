"""SESA, tested again on Debian's packages: can an encoder rank in a space of named concepts as well as in one without names?

The paper ranks members of LinkedIn for jobs in a space of skills; neither its data nor its figures are public. Here objects are packages,
the texts their names and short descriptions, the concepts debtags, and what belongs together is what one package suggests, recommends or
enhances. A tenth of the packages is kept from all training; each of their pairs is ranked against five packages of the partner's section
and against five of any section. AUC is over a pair's own negatives. What is expected was declared below before any run on test pairs.
The steps of ranking were raised from 200 to 630 after a first full run whose networks had hardly learned; no claim was changed then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from sklearn.feature_extraction.text import TfidfVectorizer

from regraft.method import resolve
from regraft.progress import step
from regraft.report.figures import training_curves
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.debian import held_out, packages
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.text.explicit.knowledge import KnowledgeBase, Thing
from regraft.text.fitting import Budget, Curve
from regraft.text.tasks.task import unit
from regraft.text.tuners.sesa import Sesa
from regraft.text.tuners.sesa.groups import Group, draw

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
AGAINST, DELETED = 5, 5  # negatives a test pair; concepts that are taken away


def _auc(claim: str, baseline: str, low: float, note: str = "") -> Declared:
    return Declared(claim, baseline, Expectation(low=low), metric="AUC", unit="share", note=note)


OVER_ESA = _auc("same section: SESA is at least 0.05 above ESA", "ESA", 0.05)
OVER_ESA_ANY = _auc("any section: SESA is at least 0.05 above ESA", "ESA", 0.05)
OVER_TAGS = _auc("same section: SESA is at least 0.05 above the same network trained on tags alone", "tags alone", 0.05)
AS_LATENT = _auc("same section: SESA is not more than 0.02 below the same network without names", "latent", -0.02)
AS_LATENT_ANY = _auc("any section: SESA is not more than 0.02 below the same network without names", "latent", -0.02)
OVER_WORDS = _auc(
    "same section: SESA is above the cosine of TF-IDF", "TF-IDF", 0.0,
    note="Negatives of one section share its tags, so that words tell more than tags do.",
)  # fmt: skip
FAITHFUL = Declared(
    "R-precision of the dimensions on held-out packages is at least ten times the latent network's", "latent", Expectation(low=9.0),
    metric="R-precision", unit="share", kind="ratio",
)  # fmt: skip
DELETION = Declared(
    f"deletion: without its {DELETED} first concepts a pair's cosine falls at least 0.05 further than without {DELETED} at random",
    "random concepts", Expectation(low=0.05), metric="fall of the cosine", unit="cosine",
)  # fmt: skip
CONTROL = Declared(
    "negative control: trained on tags that are dealt to packages at random, R-precision is at least 0.1 lower", "dealt at random",
    Expectation(low=0.1), metric="R-precision", unit="share",
)  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much of everything. `concepts`, `ranking` : steps of a batch. `pairs` : at most so many to train on."""

    seeds: int = 3
    concepts: int = 250
    ranking: int = 630  # six times over the pairs
    hidden: int = 128
    pairs: int = 100_000
    tested: int = 1_000
    batch: int = 128
    lr: float = 3e-3
    negatives: int = 2
    words: int = 12_000


QUICK = Scale(seeds=1, concepts=20, ranking=10, pairs=1500, tested=200)


@dataclass(frozen=True)
class Setting:
    """`base` : concepts and the packages to train on. `groups` : to train on. `things` : held-out packages with their tags.

    `left`, `right` (pairs,), `near`, `far` (pairs, negatives) : places in `texts` of test pairs and of what they are ranked against.
    """

    base: KnowledgeBase
    groups: list[Group]
    things: list[Thing]
    texts: list[str]
    left: Places
    right: Places
    near: Places
    far: Places


def reproduce(quick: bool) -> Findings:
    """Run all of it: under ten processor minutes in full, under one with `quick`. Needs Debian's index of packages."""
    scale = QUICK if quick else Scale()
    with step("packages of Debian"):
        setting = prepare(scale)
    aucs: dict[tuple[str, str], list[Floats]] = {}
    precision: dict[str, list[Floats]] = {}
    falls: dict[str, list[Floats]] = {}
    curves: dict[str, Curve] = {}

    def ranked(arm: str, vectors: Any) -> None:
        for kind, against in (("same", setting.near), ("any", setting.far)):
            aucs.setdefault((arm, kind), []).append(wins(vectors, setting.left, setting.right, against))

    with step("TF-IDF and ESA"):
        words = TfidfVectorizer(sublinear_tf=True).fit([thing.text for thing in setting.base.things])
        ranked("TF-IDF", words.transform(setting.texts))
        esa = resolve("encoder", "esa").over(setting.base)
        ranked("ESA", unit(encoded(esa, setting.texts)))
        precision["ESA"] = [r_precision(encoded(esa, [thing.text for thing in setting.things]), setting)]
    for seed in range(scale.seeds):
        alone = Budget(steps=scale.concepts, batch_size=scale.batch, lr=scale.lr, seed=seed)
        joint = replace(alone, steps=scale.ranking, curve=[])
        latent = replace(joint, curve=[])
        if seed == 0:
            with step("tags dealt at random"):
                model = tower(setting, scale, seed)
                sesa(pretrain=1.0).learn(model, setting.groups, dealt(setting.base, seed), replace(alone, curve=[]))
                precision["dealt"] = [measured_precision(model, setting)]
        with step(f"seed {seed}: tags alone"):
            model = sesa(pretrain=1.0).learn(tower(setting, scale, seed), setting.groups, setting.base, alone)
            ranked("tags alone", unit(encoded(model, setting.texts)))
            precision.setdefault("tags alone", []).append(measured_precision(model, setting))
        with step(f"seed {seed}: SESA"):
            model = sesa(pretrain=0.0).learn(model, setting.groups, setting.base, joint)
            vectors = unit(encoded(model, setting.texts))
            ranked("SESA", vectors)
            precision.setdefault("SESA", []).append(measured_precision(model, setting))
            for name, fall in deletion(vectors[setting.left], vectors[setting.right], seed).items():
                falls.setdefault(name, []).append(fall)
        with step(f"seed {seed}: latent"):
            model = sesa(dims="latent").learn(tower(setting, scale, seed), setting.groups, setting.base, latent)
            ranked("latent", unit(encoded(model, setting.texts)))
            precision.setdefault("latent", []).append(measured_precision(model, setting))
        curves |= {f"{arm}, seed {seed}": one.curve for arm, one in (("tags alone", alone), ("SESA", joint), ("latent", latent))}
    run = Ledger(
        f"{len(setting.base.things):,} packages, {len(setting.base.concepts)} tags, {len(setting.groups):,} pairs, {scale.seeds} seeds, "
        f"GRU {scale.hidden}, {scale.concepts} steps on tags, {scale.ranking} on pairs"
    )
    tested = f"{len(setting.left):,} pairs of held-out packages, {AGAINST} negatives each"
    for declared, baseline, kind in (
        (OVER_ESA, "ESA", "same"), (OVER_ESA_ANY, "ESA", "any"), (OVER_TAGS, "tags alone", "same"), (AS_LATENT, "latent", "same"),
        (AS_LATENT_ANY, "latent", "any"), (OVER_WORDS, "TF-IDF", "same"),
    ):  # fmt: skip
        run.settle(declared, tested, share(aucs[baseline, kind]), share(aucs["SESA", kind]))
    kept = f"{len(setting.things):,} held-out packages"
    run.settle(FAITHFUL, kept, share(precision["latent"]), share(precision["SESA"]))
    run.settle(DELETION, tested, share(falls["random"]), share(falls["first"]))
    run.settle(CONTROL, kept, share(precision["dealt"]), share(precision["tags alone"]))
    tables = {
        "AUC and R-precision": [
            {
                "arm": arm,
                "same section": share(aucs[arm, "same"]).value if (arm, "same") in aucs else None,
                "any section": share(aucs[arm, "any"]).value if (arm, "any") in aucs else None,
                "R-precision": share(precision[arm]).value if arm in precision else None,
            }
            for arm in ("TF-IDF", "ESA", "tags alone", "dealt", "latent", "SESA")
        ]
    }
    return Findings(Sesa.paper, run.claims, tables, tables, {"Loss": training_curves(curves, x_title="steps", y_title="loss")})


def prepare(scale: Scale) -> Setting:
    """Packages and pairs apart: no text, tag or pair of a held-out package is trained on."""
    debian = packages()
    text = {thing.id: thing.text for thing in debian.base.things}
    base = replace(debian.base, things=[thing for thing in debian.base.things if not held_out(thing.id)]).pruned(30)
    known = set(base.concepts)
    things = [thing for thing in debian.base.things if held_out(thing.id) and known & set(thing.concepts)]
    training = [pair for pair in debian.related if not any(map(held_out, pair))]
    asked = [pair if held_out(pair[0]) else pair[::-1] for pair in debian.related if any(map(held_out, pair))]
    random = np.random.default_rng(0)
    training = [training[at] for at in random.permutation(len(training))[: scale.pairs]]
    asked = [asked[at] for at in random.permutation(len(asked))[: scale.tested]]
    given = [(text[a], text[b]) for a, b in training]
    drawn = draw(given, base, scale.negatives, 0.5, 0)
    groups = [Group(a, (b, *others)) for (a, b), others in zip(given, drawn, strict=True)]
    pairs = [(text[a], text[b]) for a, b in asked]
    everyone = replace(base, things=debian.base.things)
    against = {share: draw(pairs, everyone, AGAINST, share, 1) for share in (1.0, 0.0)}
    texts = list(
        dict.fromkeys(one for pair in pairs for one in pair) | dict.fromkeys(t for rows in against.values() for r in rows for t in r)
    )
    at = {one: place for place, one in enumerate(texts)}
    near, far = (np.array([[at[one] for one in row] for row in against[share]]) for share in (1.0, 0.0))
    left, right = (np.array([at[pair[side]] for pair in pairs]) for side in (0, 1))
    return Setting(base, groups, things, texts, left, right, near, far)


def sesa(**settings: Any) -> Sesa:
    tuner: Sesa = resolve("tuner", "sesa", {"patience": 0, **settings})
    return tuner


def tower(setting: Setting, scale: Scale, seed: int) -> SentenceTransformer:
    """A GRU over random vectors of the training packages' words."""
    way = resolve("encoder", "rnn", {"cell": "gru", "hidden": scale.hidden, "words": scale.words})
    model: SentenceTransformer = way.over([thing.text for thing in setting.base.things], max_tokens=32, seed=seed)
    return model


def dealt(base: KnowledgeBase, seed: int) -> KnowledgeBase:
    """Each package has the tags of another: what a text says of its tags is lost, how frequent they are is not."""
    order = np.random.default_rng(seed).permutation(len(base.things))
    return replace(base, things=[replace(one, concepts=base.things[at].concepts) for one, at in zip(base.things, order, strict=True)])


def encoded(model: SentenceTransformer, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.asarray(model.encode(list(texts), batch_size=256, show_progress_bar=False), dtype=np.float32)


def wins(vectors: Any, left: Places, right: Places, against: Places) -> Floats:
    """Share of a pair's negatives that its partner is above (pairs,), a tie being half; `vectors` have length 1 or 0, dense or sparse."""

    def cosines(places: Places) -> Floats:
        product = vectors[left] * vectors[places] if isinstance(vectors, np.ndarray) else vectors[left].multiply(vectors[places])
        return np.asarray(product.sum(1), dtype=np.float64).ravel()

    positive = cosines(right)
    return np.asarray(np.mean([(positive > other) + 0.5 * (positive == other) for other in map(cosines, against.T)], axis=0))


def measured_precision(model: SentenceTransformer, setting: Setting) -> Floats:
    return r_precision(encoded(model, [thing.text for thing in setting.things]), setting)


def r_precision(vectors: npt.NDArray[np.float32], setting: Setting) -> Floats:
    """Share of a package's R tags among its R largest dimensions (packages,)."""
    has, _ = replace(setting.base, things=setting.things).labels()
    truth = has.toarray() > 0
    ranks = np.argsort(np.argsort(-vectors, axis=1, kind="stable"), axis=1)
    count = truth.sum(1)
    return np.asarray((truth & (ranks < count[:, None])).sum(1) / count)


def deletion(left: Floats, right: Floats, seed: int) -> dict[str, Floats]:
    """How far each pair's cosine falls when concepts are taken from both sides: those that add most to it, or any."""
    places = np.argsort(-(left * right), axis=1)[:, :DELETED]
    chance = np.random.default_rng(seed).random(left.shape).argsort(axis=1)[:, :DELETED]
    before = (left * right).sum(1)
    found = {}
    for name, columns in (("first", places), ("random", chance)):
        a, b = left.copy(), right.copy()
        for side in (a, b):
            np.put_along_axis(side, columns, 0.0, axis=1)
        found[name] = before - (unit(a.astype(np.float32)) * unit(b.astype(np.float32))).sum(1)
    return found


def share(rows: Sequence[Floats]) -> Sample:
    amounts = np.stack(rows)
    return Sample(amounts, np.ones_like(amounts))
