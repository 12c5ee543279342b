"""SWS, tested again: do a few layers, each learned while repeated in its place, make models of many depths that are nearly trained?

The paper distils an auxiliary network of 16 layers in 5 stages from LeViT-384 on ImageNet; here one of 8 layers in 4 stages, 48 wide,
learns from a vision transformer on scikit-learn's handwritten digits for 20 epochs. All matrices start with a deviation of 0.1: the
paper's 0.02 belongs to models 384 wide and more. On a real model, three stages learn from all-MiniLM-L6-v2 (6 layers), starting from one
of its layers each. What is expected was declared below before any full run; sizes come from the method's description and from looks at
one seed.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.datasets.models import encoder_folder
from regraft.evaluation.correlation import Correlation
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.grower import write
from regraft.grow.depth.growers.drop import Drop
from regraft.grow.depth.growers.sws import Sws
from regraft.grow.depth.growers.tleg import Tleg
from regraft.grow.depth.learned.grower import LearnedGrower, learn
from regraft.grow.depth.plan import Plan
from regraft.grow.depth.stack import LayerStack
from regraft.grow.grower import Context
from regraft.language.loading import load_model
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.grow.digits import EPOCH, STD, Digits, accuracy, kept, vision_transformer
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.text.tasks.named import stsb
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer

STAGES, AUX = 4, 8
PLANS = {
    "1,1,1,1": [0, 1, 2, 3],
    "2,1,1,2": [0, 0, 1, 2, 3, 3],
    "2,2,2,2": [0, 0, 1, 1, 2, 2, 3, 3],
    "3,3,3,3": [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
}
WRONG = {"reversed": [3, 3, 2, 2, 1, 1, 0, 0], "all repeats in the first": [0, 0, 0, 0, 0, 1, 2, 3]}
PICKED = {"1,1,1,1": [0, 2, 5, 7], "2,2,2,2": list(range(8)), "3,3,3,3": [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7]}  # of 8 untied layers
SETTINGS: dict[str, Any] = {"lr": 2e-3, "std": STD}
SHARE: dict[str, Any] = {"metric": "accuracy", "unit": "share"}

IN_PLAN = {
    plan: Declared(
        f"repeats {plan} as written, never trained: within 5 points of the auxiliary network 2,2,2,2", "auxiliary network",
        Expectation(low=-0.05), **SHARE,
    ) for plan in ("1,1,1,1", "2,1,1,2", "3,3,3,3")
}  # fmt: skip
ORDER = Declared(
    "order matters: stages in reverse are at least 40 points worse as written", "2,2,2,2", Expectation(high=-0.40), **SHARE
)  # fmt: skip
PLACE = Declared(
    "place matters: all repeats in the first stage are at least 10 points worse as written", "2,2,2,2", Expectation(high=-0.10), **SHARE
)  # fmt: skip
OVER_PICKED = {
    plan: Declared(
        f"{len(PLANS[plan])} layers as written are at least 5 points over layers picked from 8 untied ones, distilled alike",
        "picked untied layers", Expectation(low=0.05), **SHARE,
    ) for plan in ("1,1,1,1", "3,3,3,3")
}  # fmt: skip
UNTIED = Declared(
    "sharing costs at most 5 points: the auxiliary network against 8 untied layers, distilled alike", "8 untied layers",
    Expectation(low=-0.05), **SHARE,
)  # fmt: skip
OVER_SCRATCH = {
    plan: Declared(
        f"{len(PLANS[plan])} layers: after one epoch at least 10 points over the same model from scratch after one",
        "from scratch, 1 epoch", Expectation(low=0.10), **SHARE,
    ) for plan in ("1,1,1,1", "2,1,1,2")
}  # fmt: skip
OVER_TLEG = {
    plan: Declared(
        f"{len(PLANS[plan])} layers as written are no worse than TLEG's of the same budget", "TLEG", Expectation(low=-0.005), **SHARE
    ) for plan in ("1,1,1,1", "3,3,3,3")
}  # fmt: skip
ENCODER = {
    depth: Declared(
        f"all-MiniLM-L6-v2: {depth} layers of three stages are at least 1 point over {depth} of its own, neither trained after",
        "evenly spaced layers", Expectation(low=0.01), metric="Spearman", unit="correlation",
    ) for depth in (2, 3)
}  # fmt: skip


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 9 processor minutes in full, one with `quick`."""
    seeds, epochs, steps = (1, 2, 3) if quick else (3, 20, 100)
    ledger = Ledger("STS benchmark, test")
    with step("three stages of MiniLM"):
        found = encoders(steps)
    for depth, declared in ENCODER.items():
        ledger.settle(declared, f"{steps} steps of distillation on its training sentences", found[f"drop {depth}"], found[f"sws {depth}"])
    ledger.data = "scikit-learn digits, 1,200 images to train on, 597 to test on"
    runs = []
    for seed in range(seeds):
        with step(f"seed {seed}"):
            runs.append(one_seed(seed, epochs, 3 if quick else 15))
    arms = {name: accuracy([hits[name] for hits in runs]) for name in runs[0]}
    how = f"{epochs} epochs of distillation, {seeds} seeds"
    for plan, declared in IN_PLAN.items():
        ledger.settle(declared, how, arms["aux"], arms[plan])
    ledger.settle(ORDER, how, arms["2,2,2,2"], arms["reversed"])
    ledger.settle(PLACE, how, arms["2,2,2,2"], arms["all repeats in the first"])
    for plan, declared in OVER_PICKED.items():
        ledger.settle(declared, how, arms[f"picked {plan}"], arms[plan])
    ledger.settle(UNTIED, how, arms["picked 2,2,2,2"], arms["aux"])
    for plan, declared in OVER_SCRATCH.items():
        ledger.settle(declared, how, arms[f"scratch {plan}"], arms[f"{plan}, tuned"])
    for plan, declared in OVER_TLEG.items():
        ledger.settle(declared, how, arms[f"tleg {plan}"], arms[plan])
    rows = [{"repeats": plan, **{name: arms[key].value for name, key in columns(plan).items() if key in arms}} for plan in [*PLANS, *WRONG]]
    text = [{"layers": name, "spearman": one.value} for name, one in found.items()]
    return Findings(
        Sws.paper, ledger.claims, {"accuracy": rows, "similarity": text}, {"Accuracy by plan": rows, "Encoders": text}
    )  # fmt: skip


def columns(plan: str) -> dict[str, str]:
    return {
        "as written": plan,
        "after 1 epoch": f"{plan}, tuned",
        "picked untied layers": f"picked {plan}",
        "picked, after 1 epoch": f"picked {plan}, tuned",
        "TLEG": f"tleg {plan}",
        "scratch, 1 epoch": f"scratch {plan}",
    }


def one_seed(seed: int, epochs: int, teaching: int) -> dict[str, npt.NDArray[np.float64]]:
    """Hits by arm; `teaching` epochs are the teacher's."""
    digits = Digits(seed)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        source = kept(digits.train(vision_transformer(6, seed), teaching, 1e-3), Path(folder) / "teacher")
        context = Context(steps=epochs * EPOCH, seed=seed)
        arms: dict[str, LearnedGrower] = {
            "sws": Sws(stages=",".join("2" * STAGES), **SETTINGS),
            "untied": Sws(stages=",".join("1" * AUX), **SETTINGS),
            "tleg": Tleg(aux_depth=AUX, **SETTINGS),
        }
        genes = {name: learn(method, source, context, batches=digits.batch) for name, method in arms.items()}
        hits = {"aux": digits.hits(arms["sws"].tied(genes["sws"], AUX))}
        for name, sources in {**PLANS, **WRONG}.items():
            hits[name], hits[f"{name}, tuned"] = both(digits, arms["sws"], genes["sws"], sources)
        for name, sources in PICKED.items():
            hits[f"picked {name}"], hits[f"picked {name}, tuned"] = both(digits, arms["untied"], genes["untied"], sources)
        for name, sources in PLANS.items():
            hits[f"tleg {name}"] = digits.hits(arms["tleg"].expand(genes["tleg"], len(sources)))
            fresh = vision_transformer(len(sources), seed + 100)
            hits[f"scratch {name}"] = digits.hits(digits.train(fresh, 1, 1e-3))
        return hits


def both(digits: Digits, method: LearnedGrower, gene: Gene, sources: Sequence[int]) -> tuple[Any, Any]:
    """Hits of layers `sources` of a gene, in any order: as written, and after an epoch of labels."""
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        plan = Plan.copies(sources, gene.stack.depth)
        written = write(gene, plan, Path(folder) / "model", method, gene.stack.checkpoint)
        model = load_model(Checkpoint.open(written.out))
    return digits.hits(model), digits.hits(digits.train(model, 1, 5e-4))


def encoders(steps: int) -> dict[str, Correlation]:
    """Similarity of sentences by encoders of 2 and 3 layers: from three learned stages, and from the model's own layers."""
    source = Checkpoint.open(encoder_folder())
    tokenizer = load_tokenizer(Tokenizer.from_directory(source.path))
    stack = LayerStack.open(source)
    sentences = list(dict.fromkeys(text for a, b, _ in stsb("train") for text in (a, b)))
    method = Sws(stages="2,2,2", init="pick", drop_path=0, batch_size=16, length=32)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        (Path(folder) / "sentences.txt").write_text("\n\n".join(sentences), encoding="utf-8")
        corpus = Corpus.open([str(Path(folder) / "sentences.txt")], held_out=0.01)
        gene = method.fit(stack, Context(corpus=corpus, steps=steps))
    found = {"all 6": similarity(load_model(source), tokenizer)}
    for depth in (2, 3):
        found[f"drop {depth}"] = similarity(Drop().expand(Gene(stack), depth), tokenizer)
        found[f"sws {depth}"] = similarity(method.expand(gene, depth), tokenizer)
    return found


@torch.no_grad()
def similarity(model: Any, tokenizer: Any) -> Correlation:
    """Of the STS benchmark's test pairs, by the mean of token states."""
    pairs = stsb("test")
    sides = []
    for side in (0, 1):
        texts, rows = [pair[side] for pair in pairs], []
        for start in range(0, len(texts), 64):
            read = tokenizer(texts[start : start + 64], padding=True, truncation=True, max_length=128, return_tensors="pt")
            mask = read["attention_mask"][..., None]
            rows.append(normalize((model(**read).last_hidden_state * mask).sum(1) / mask.sum(1), dim=-1))
        sides.append(torch.cat(rows))
    return Correlation((sides[0] * sides[1]).sum(1).double().numpy()[None], np.array([grade for *_, grade in pairs], dtype=np.float64))
