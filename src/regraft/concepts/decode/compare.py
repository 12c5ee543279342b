"""Decoders beside each other: trained on the same images for the same steps, judged on held-out ones.

Enters: examples, methods, a plan. Leaves: a row a method beside the model without a condition: the Fréchet distance of what it draws for
held-out images to these images, in features that no encoder learned, with a paired interval; and how near the embeddings of what it drew
are to those asked for, where there is an encoder. Resumable.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.comparison import Arm, Bench, Kept, Outcome, arms_of, ranked, run, save
from regraft.concepts.decode.decoder import EmbeddingDecoder, Examples, Plan
from regraft.concepts.decode.job import Drawing
from regraft.concepts.decode.judging import FRECHET, Distance, Encoder, PixelFeatures, similarity
from regraft.concepts.decode.report import comparison_page
from regraft.concepts.decode.training import train
from regraft.errors import InputError
from regraft.meter import metered
from regraft.method import list_methods
from regraft.progress import step
from regraft.report import Report

ROWS, REFERENCE, LEAST = "rows.jsonl", "unconditional", 32


class DecoderBench(Bench):
    """One set of images, one split, each arm with each seed."""

    unit, metric, reference = "decoders", FRECHET, REFERENCE

    def __init__(
        self, parts: tuple[Examples, Examples], plain: EmbeddingDecoder, plan: Plan, seeds: int, drawing: Drawing, encoder: Encoder | None
    ) -> None:
        self.train_on, self.held = parts
        self.plain, self.plan, self.seeds, self.drawing, self.encoder = plain, plan, seeds, drawing, encoder
        self.real = (self.held.pictures.take(range(len(self.held.pictures))) + 1) / 2
        seen = self.train_on.pictures.take(range(min(4000, len(self.train_on.pictures))))
        self.features = PixelFeatures.fit((seen + 1) / 2)
        self.sheets: dict[str, Tensor] = {}

    def fingerprint(self, *, trained: bool) -> str:
        digest = hashlib.sha256(
            json.dumps([str(self.plan), str(self.plain), self.seeds, str(self.drawing), self.encoder is not None]).encode()
        )
        for part in (self.train_on, self.held):
            digest.update(json.dumps([part.pictures.names, part.pictures.size, part.classes]).encode() + part.embeddings.tobytes())
        return digest.hexdigest()

    def baseline(self) -> Outcome:
        return self.measure(Arm(self.reference, self.plain))

    def measure(self, arm: Arm) -> Outcome:
        outcome = Outcome({"method": arm.name, FRECHET.name: None, "error": None})
        drawn: list[Tensor] = []
        curves: list[list[tuple[float, float]]] = []
        rows, _ = arm.method.conditions(self.held)
        with metered() as cost:
            for seed in range(self.plan.seed, self.plan.seed + self.seeds):
                with step(f"{arm.name}, seed {seed}"):
                    curves.append([])
                    pipeline = train(arm.method, self.train_on, replace(self.plan, seed=seed), curve=curves[-1])
                    drawn.append(replace(self.drawing, seed=seed).images(pipeline, rows))
        sample = Distance(self.features(self.real), np.stack([self.features(one) for one in drawn]))
        outcome.sample, outcome.curve = sample, curves[0]
        outcome.row |= {FRECHET.name: sample.value}
        if self.encoder is not None:
            near = [similarity(self.held.embeddings, self.encoder(one)).figures() for one in drawn]
            outcome.row |= {name: float(np.mean([one[name] for one in near])) for name in near[0]}
        outcome.row |= {"seconds": cost.seconds / self.seeds, "peak_mb": cost.peak_mb}
        self.sheets[arm.name] = drawn[0]
        return outcome


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, the baseline first, then the best; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report


def compare(
    examples: Examples,
    *,
    methods: Sequence[str] = ("all",),
    settings: Mapping[str, Mapping[str, Any]] = {},
    shared: Mapping[str, Any] = {},
    plan: Plan | None = None,
    seeds: int = 1,
    held_out: float = 0.2,
    drawing: Drawing | None = None,
    encoder: Encoder | None = None,
    out: Path | None = None,
) -> Compared:
    """Train every method of `methods` ("all": those that the examples allow) beside the unconditional model, and judge what they draw.

    `settings` are by method, `shared` those of all. Raises `InputError`: too few images; `ParameterError`: an unknown method, or settings
    of one that is not compared.
    """
    plan = plan or Plan()
    able = [cls.name for cls in list_methods("embedding-decoder") if examples.labels is not None or "labels" not in cls.needs]
    plain, arms = arms_of("embedding-decoder", methods, settings, REFERENCE, able=able, shared=shared)
    bench = DecoderBench(split(examples, held_out, plan.seed), plain, plan, seeds, drawing or Drawing(), encoder)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    outcomes = run(bench, arms, 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, FRECHET)
    said = [f"{len(bench.train_on.pictures):,} images were trained on for {plan.steps:,} steps, {len(bench.held.pictures):,} held out."]
    sheets = {"real": bench.real, **{name: bench.sheets[name] for name in outcomes if name in bench.sheets}}
    report = comparison_page(rows, outcomes, sheets, said)
    if out is not None:
        save(out, {"rows": rows}, report)
    return Compared(rows, report)


def split(examples: Examples, held_out: float, seed: int) -> tuple[Examples, Examples]:
    """By chance: to train on, and to judge by. Raises `InputError`: fewer than 32 would be held out, or none left."""
    order = torch.randperm(len(examples.pictures), generator=torch.Generator().manual_seed(seed)).numpy()
    count = int(held_out * len(order))
    if count < LEAST or count == len(order):
        raise InputError(f"{len(order):,} images with {held_out:.0%} held out leave {count} to judge by: needs {LEAST} or more")
    return examples.part(np.sort(order[count:])), examples.part(np.sort(order[:count]))
