"""CoRe, tested again: does a word that is held to leave its context alone obey prompts better than textual inversion, and by which part?

The paper teaches 24 things to Stable Diffusion 2.1; here the toy pipeline is taught three digits that it has no word for, from six pictures
each in red on black, and asked for them in three other colorings. The first stage alone is judged, as in the paper's ablation. The toy's
prompts are short and its runs too, so the terms weigh more than the paper's (the setting is recorded). What is expected was declared below
before any full run, from the method's description.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regraft.concepts.drawing import draw
from regraft.concepts.method import ConceptMethod, Learned, Plan
from regraft.concepts.methods.core_context_regularization import CoreContextRegularization, fit_to_prompt
from regraft.concepts.methods.textual_inversion import TextualInversion
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.concepts.digits import BEHIND, HIDDEN, HOW, UNSEEN, Judged, Task, judged, samples, task
from regraft.reproductions.harness.record import Findings, Ledger

INVERSION, CORE, BLIND, FREE, ALONE = "textual inversion", "CoRe", "no attention term", "no rescaling", "the caption alone"
RATE, LAM_EMB, LAM_ATTN = 2e-2, 0.05, 5.0
SHARE: dict[str, Any] = {"metric": "share of images", "unit": "share"}
COSINE: dict[str, Any] = {"metric": "cosine of what the text tower puts out", "unit": "cosine"}
CONTEXT = Declared("words behind the new one keep their meaning: cosine higher by 0.15 or more", INVERSION, Expectation(0.15), **COSINE)
COLORS = Declared("both colors right in 10 points more of the images", INVERSION, Expectation(0.1), **SHARE)
JOINT = Declared("digit and both colors right in more of the images", INVERSION, Expectation(0.0), **SHARE)
LOSS = Declared(
    "at most 4 % more loss on held-out pictures", INVERSION, Expectation(high=0.04), metric="mean squared error", unit="error", kind="ratio"
)
WITHOUT = Declared("without the attention term fewer images have both colors", CORE, Expectation(high=0.0), **SHARE)
IDENTITY = Declared("without the attention term no fewer images show the digit", CORE, Expectation(0.0), **SHARE)
LENGTH = Declared("without rescaling the rows are longer", CORE, Expectation(0.0), metric="length of the rows", unit="length", kind="ratio")
PROMPTS = Declared("regularizing the caption alone keeps less of the context", CORE, Expectation(high=0.0), **COSINE)
FITTED = Declared("ten steps for one prompt: digit and colors right in more images of the worst prompts", CORE, Expectation(0.0), **SHARE)
NEAR = Declared(
    "ten steps for one prompt move the rows by less than 5 % of their length", "not at all", Expectation(high=0.05),
    metric="way by length", unit="share",
)  # fmt: skip


def sentences() -> list[str]:
    """Forty sentences of the toy's grammar, none of them one that a claim is measured on."""
    colors, grounds = ("green", "blue", "yellow", "pink", "cyan"), ("white", "gray", "brown")
    found = [f"a picture of a {{}} on a {ground} background" for ground in grounds]
    found += [f"{lead} {color} {{}}" for lead in ("a drawing of the", "a picture of a") for color in colors]
    found += [f"an image of a {color} {{}} on a {ground} background" for color in colors for ground in grounds]
    found += [f"the {{}} on a {ground} background" for ground in grounds] + [f"a {color} {{}} in plain style" for color in colors]
    found += ["a {} in plain style", "the {} in plain style", "a drawing of the {} in plain style", "an image of a {} in plain style"]
    return [one for one in found if one not in (*BEHIND, *UNSEEN)]


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 12 processor minutes in full, one with `quick`."""
    seeds, steps, images = (1, 20, 2) if quick else (3, 120, 12)
    tasks = [task(digit) for digit in (HIDDEN[:1] if quick else HIDDEN)]
    with tempfile.TemporaryDirectory() as folder:
        (templates := Path(folder) / "sentences.txt").write_text("\n".join(sentences()), encoding="utf-8")
        ways = arms(templates)
        learned = {name: taught(name, way, tasks, seeds, steps) for name, way in ways.items()}
        found = {name: looked(name, tasks, learned[name], images if name in (INVERSION, CORE, BLIND) else 1) for name in ways}
        before, after, moved = put_right(tasks, learned[CORE], found[CORE], ways[CORE], images)
    ledger, text = Ledger(f"toy-t2i, digits {', '.join(str(one.digit) for one in tasks)}"), f"{seeds} seeds, {steps} steps of 6 images"
    weights = f"Learning rate {RATE:g}, lam_emb {LAM_EMB:g}, lam_attn {LAM_ATTN:g}."
    for declared, score in ((CONTEXT, "ctx"), (COLORS, "attr"), (JOINT, "joint"), (LOSS, "loss")):
        ledger.settle(declared, text, samples(found[INVERSION], score), samples(found[CORE], score), weights)
    for declared, score, way in ((WITHOUT, "attr", BLIND), (IDENTITY, "identity", BLIND), (PROMPTS, "ctx", ALONE)):
        ledger.settle(declared, text, samples(found[CORE], score), samples(found[way], score))
    ledger.settle(LENGTH, text, length(learned[CORE]), length(learned[FREE]))
    ledger.settle(FITTED, f"{text}; the coloring with fewest right images of each run", before, after)
    ledger.settle(NEAR, text, Sample(np.zeros_like(moved.amounts), moved.sizes), moved)
    rows = [row(name, learned[name], found[name], judged_whole=name in (INVERSION, CORE, BLIND)) for name in ways]
    return Findings(CoreContextRegularization.paper, ledger.claims, {"ways": rows}, {"Ways": rows})


def arms(templates: Path) -> dict[str, ConceptMethod]:
    """Textual inversion, CoRe's first stage, and that without one of its parts."""
    core = CoreContextRegularization(lr=RATE, lam_emb=LAM_EMB, lam_attn=LAM_ATTN, templates=templates, unet_steps=0, flip=0)
    ablated = {
        BLIND: replace(core, lam_attn=0),
        FREE: replace(core, rescale=False),
        ALONE: replace(core, templates=None, prompts="caption"),
    }
    return {INVERSION: TextualInversion(batch=6, lr=RATE, flip=0), CORE: core, **ablated}


def taught(name: str, way: ConceptMethod, tasks: list[Task], seeds: int, steps: int) -> list[list[Learned]]:
    """`[seed][digit]`, each from the same draws for every way."""
    found = []
    for seed in range(seeds):
        with step(f"{name}, seed {seed}"):
            found.append([way.learn(one.lesson, Plan(steps=steps, seed=seed)) for one in tasks])
    return found


def looked(name: str, tasks: list[Task], learned: list[list[Learned]], images: int) -> list[list[Judged]]:
    with step(f"{name}, drawn"):
        return [[judged(t, one.concept, per_coloring=images) for t, one in zip(tasks, digits, strict=True)] for digits in learned]


def put_right(
    tasks: list[Task], learned: list[list[Learned]], found: list[list[Judged]], way: ConceptMethod, images: int
) -> tuple[Sample, Sample, Sample]:
    """Of each run its worst coloring: right images before ten steps for that prompt and after, and how far the rows went."""
    columns: tuple[list[Any], ...] = ([], [], [])
    for seed, digits in enumerate(learned):
        with step(f"one prompt, seed {seed}"):
            runs = [_put_right(t, one, seen, way, images, seed) for t, one, seen in zip(tasks, digits, found[seed], strict=True)]
        for column, parts in zip(columns, zip(*runs, strict=True), strict=True):
            column.append(np.concatenate([np.atleast_1d(part) for part in parts]))
    before, after, moved = (Sample(np.stack(column), np.ones_like(np.stack(column))) for column in columns)
    return before, after, moved


def _put_right(given: Task, one: Learned, seen: Judged, way: ConceptMethod, images: int, seed: int) -> tuple[Any, Any, float]:
    shares = seen.joint.reshape(len(UNSEEN), -1).mean(1) + 1e-3 * seen.attr.reshape(len(UNSEEN), -1).mean(1)
    prompt = UNSEEN[int(shares.argmin())].format(one.concept.word)
    assert isinstance(way, CoreContextRegularization)
    fitted = fit_to_prompt(given.lesson.pipeline, one.concept, prompt, given.lesson.pictures, method=way, seed=seed).concept
    rows = [next(iter(concept.words()[concept.word].values())) for concept in (one.concept, fitted)]
    scores = []
    for concept in (one.concept, fitted):
        drawn = draw(given.lesson.pipeline, [concept], [prompt] * images, replace(HOW, seed=HOW.seed + 500))  # images of their own
        scores.append(given.judge.match(drawn, [prompt] * images) * given.judge.identity(drawn))
    return scores[0], scores[1], float((rows[1] - rows[0]).norm() / rows[0].norm())


def length(learned: list[list[Learned]]) -> Sample:
    """Of the rows, a row a seed."""
    rows = np.array([[one.facts["norm"] for one in digits] for digits in learned])
    return Sample(rows, np.ones_like(rows))


def row(name: str, learned: list[list[Learned]], found: list[list[Judged]], *, judged_whole: bool) -> dict[str, Any]:
    """What was measured of a way; of ablations about rows alone no images."""
    scores = ("attr", "joint", "identity", "loss", "ctx") if judged_whole else ("loss", "ctx")
    return {"way": name, **{score: samples(found, score).value for score in scores}, "length": length(learned).value}
