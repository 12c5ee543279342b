"""AST-Probe, tested again: do the middle layers of an encoder hold more of Python's syntax than its input, random layers, its last layer?

The paper probes CodeBERT and others on 20,000 functions of CodeSearchNet; here all-MiniLM-L6-v2 (six layers of 384, trained on sentence
pairs with code among them) on 1,600 functions of Python's standard library of 8 to 90 tokens, split by file. What is expected was declared
before any run of this script: the sizes come from one seed of an earlier prototype on other functions.
"""

import sysconfig
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regraft.checkpoint import Checkpoint
from regraft.datasets.models import encoder_folder
from regraft.language.loading import load_both
from regraft.probe.probes.ast_probe.method import ASTProbe
from regraft.probe.probes.ast_probe.snippets import Snippet, read_functions, source_files
from regraft.probe.probes.ast_probe.sweep import LEARNED, RANDOM, Outcome, Sweep
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.tokenizer import Tokenizer

MIDDLE, LAST, RANK, LOW_RANK = 3, 6, 128, 16
TOKENS = (8, 90)
METRIC: Any = {"metric": "macro constituent F1", "unit": "F1"}

INPUT = Declared("layer 3 is at least 0.05 above the input", "layer 0", Expectation(low=0.05), **METRIC)
UNTRAINED = Declared("layer 3 is at least 0.05 above layer 3 under random layers", "random layers", Expectation(low=0.05), **METRIC)
LOST = Declared("the last layer has lost syntax: layer 3 is at least 0.15 above it", "layer 6", Expectation(low=0.15), **METRIC)
DIMENSIONS = Declared("rank 128 is at least 0.05 above rank 16", "rank 16", Expectation(low=0.05), **METRIC)

PROBES = {
    "middle": (LEARNED, MIDDLE, RANK),
    "input": (LEARNED, 0, RANK),
    "random": (RANDOM, MIDDLE, RANK),
    "last": (LEARNED, LAST, RANK),
    "low rank": (LEARNED, MIDDLE, LOW_RANK),
}


def reproduce(quick: bool) -> Findings:
    """Run all of it: under ten minutes on one core in full, under one with `quick`."""
    seeds, count = (1, 200) if quick else (3, 1600)
    method = ASTProbe(epochs=4) if quick else ASTProbe()
    snippets, counted = standard_library(3 * count // 2)
    checkpoint = Checkpoint.open(encoder_folder())
    model, tokenizer = load_both(checkpoint, Tokenizer.from_directory(checkpoint.path), "auto", "cpu")
    first = Sweep.of(method, model, tokenizer, snippets, count=count)
    with step("hidden states"):
        first.prepare(LEARNED, (0, MIDDLE, LAST))
        first.prepare(RANDOM, (MIDDLE,))
    with step(f"{len(PROBES)} probes under {seeds} seeds"):
        found = [{name: replace(first, seed=seed).probe(*asked) for name, asked in PROBES.items()} for seed in range(seeds)]
    scores = {name: sample([seed[name] for seed in found]) for name in PROBES}
    sides = ", ".join(f"{len(getattr(first.split, side))} to {side}" for side in ("train", "valid", "test"))
    run = Ledger(f"Python standard library, functions of {TOKENS[0]} to {TOKENS[1]} tokens, split by file: {sides}; all-MiniLM-L6-v2")
    how = f"{seeds} seeds, one split, one set of random layers"
    for declared, name in ((INPUT, "input"), (UNTRAINED, "random"), (LOST, "last"), (DIMENSIONS, "low rank")):
        run.settle(declared, how, scores[name], scores["middle"])
    rows = [{"probe": name, "seed": seed, **one.to_dict()} for seed, probes in enumerate(found) for name, one in probes.items()]
    labels = {"constituents": len(first.labels.constituents), "unary": len(first.labels.unary)}
    return Findings(
        ASTProbe.paper, run.claims, {"probes": rows, "functions": counted, "labels": labels}, {"Probes": [shown(row) for row in rows]}
    )


def standard_library(enough: int) -> tuple[list[Snippet], dict[str, Any]]:
    """Functions of the standard library without its tests, with the number of tokens asked for, and how they were counted."""
    root = Path(sysconfig.get_path("stdlib"))
    apart = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}
    files = [path for path in source_files(root, "python")["python"] if not apart & set(path.relative_to(root).parts)]
    found = read_functions(files, "python", enough=enough)
    low, high = TOKENS
    kept = [one for one in found.snippets if low <= len(one.tokens) <= high]
    figures = {"files": found.files, "found": len(found.snippets), "of_this_length": len(kept), "skipped": dict(found.skipped)}
    return kept, figures | {"grammar": found.grammar.versions}


def sample(outcomes: Sequence[Outcome]) -> Sample:
    """F1 of each test function under each seed."""
    f1 = np.stack([one.score.f1 for one in outcomes])
    return Sample(f1, np.ones_like(f1))


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("probe", "seed", "f1", "precision", "recall", "off_orthogonal", "epochs")}
