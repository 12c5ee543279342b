"""Probes over layers, ranks and controls on one split of snippets, with states that are made once.

Enters: a live model and snippets. Leaves: an `Outcome` a probe. With a cache, what is finished is not made again.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from regraft import __version__
from regraft.errors import InputError
from regraft.probe.probe import Measurement
from regraft.probe.probes.ast_probe.controls import with_random_layers
from regraft.probe.probes.ast_probe.encoding import Code
from regraft.probe.probes.ast_probe.examples import Examples, Labels
from regraft.probe.probes.ast_probe.probe import SyntaxProbe
from regraft.probe.probes.ast_probe.score import Score, predict, score
from regraft.probe.probes.ast_probe.snippets import Found, Snippet, Split, draw, split_by_file
from regraft.probe.probes.ast_probe.states import PAPER_LONGEST, Shape, Spelled, Speller, token_states
from regraft.probe.probes.ast_probe.train import Schedule, Trained, fit
from regraft.progress import console, progress_bar, step

LEARNED, RANDOM = "learned", "random layers"
READ = "higher: more of the syntax can be read off; only beside layer 0 and random layers does it say what the layers hold"


class Parameters(Protocol):
    """The hyper-parameters of `ASTProbe`."""

    @property
    def rank(self) -> int: ...
    @property
    def compat(self) -> str | None: ...


@dataclass(frozen=True)
class Outcome:
    """One probe: what it was trained on, the probe itself, what it makes of the test snippets, and its scores.

    Attributes
    ----------
    layers : "learned", or "random layers" for the control. validation : macro F1 on the validation snippets, by which layers are chosen.
    """

    layers: str
    layer: int
    rank: int
    trained: Trained
    predicted: list[Code]
    score: Score
    validation: float
    interval: tuple[float, float]

    @property
    def f1(self) -> float:
        return float(self.score.f1.mean())

    @property
    def measurement(self) -> Measurement:
        """The macro F1 as a figure."""
        where = f"layer {self.layer}" + (" under random layers" if self.layers == RANDOM else "")
        notes = ("interval: drawing test snippets again",)
        return Measurement(name=f"ast-probe, {where}", value=self.f1, unit="macro F1", interval=self.interval, read=READ, notes=notes)

    def to_dict(self) -> dict[str, Any]:
        return {
            "layers": self.layers,
            "layer": self.layer,
            "rank": self.rank,
            "f1": self.f1,
            "interval": list(self.interval),
            "precision": float(self.score.precision.mean()),
            "recall": float(self.score.recall.mean()),
            "validation_f1": self.validation,
            "off_orthogonal": self.trained.off_orthogonal,
            "epochs": len(self.trained.losses),
        }


@dataclass
class Sweep:
    """A model, its tokenizer and a split, ready for any number of probes. Build one with `Sweep.of`."""

    method: Parameters
    model: Any
    shape: Shape
    split: Split
    labels: Labels
    speller: Speller
    spelled: list[Spelled]
    seed: int = 0
    cache: Path | None = None
    device: str = "cpu"
    skipped: Counter[str] = field(default_factory=Counter)
    _states: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        method: Parameters,
        model: Any,
        tokenizer: Any,
        snippets: Sequence[Snippet],
        *,
        count: int | None = None,
        longest: int = PAPER_LONGEST,
        seed: int = 0,
        cache: Path | None = None,
        before: Counter[str] | None = None,
    ) -> "Sweep":
        """Leave out what the model cannot read, draw `count` of the rest and split them by file.

        `before` : what was left out before, for the message where nothing is left.

        Raises `InputError` where too little is left, `ParameterError` where the rank is above the model's width.
        """
        shape = Shape.of(model)
        shape.check_rank(method.rank)
        speller = Speller(model, tokenizer, longest)
        read = speller(snippets)
        skipped = Counter(why for why in read if isinstance(why, str))
        usable = [snippet for snippet, spelled in zip(snippets, read, strict=True) if isinstance(spelled, Spelled)]
        if not usable:
            raise InputError(f"no function that can be used ({_said(skipped + (before or Counter()))}): give other code")
        split = split_by_file(usable if count is None else draw(usable, count, seed), seed)
        known = split.all if method.compat == "released" else split.train
        labels = Labels.of([one.code for one in known])
        device = str(next(model.parameters()).device)
        spelled = [one for one in speller(split.all) if isinstance(one, Spelled)]
        return cls(method, model, shape, split, labels, speller, spelled, seed, cache, device, skipped)

    def layers(self, layers: Sequence[int] | None = None, *, controls: bool = True) -> list[Outcome]:
        """A probe a layer; with `controls`, layer 0 always, and every other layer under random layers too."""
        numbers = self.shape.layers(layers)
        if controls:
            numbers = sorted({0, *numbers})
        self.prepare(LEARNED, numbers)
        wanted = [(LEARNED, layer) for layer in numbers]
        if controls and (above := [layer for layer in numbers if layer]):
            self.prepare(RANDOM, above)
            wanted += [(RANDOM, layer) for layer in above]
        return self.probes([(layers, layer, self.method.rank) for layers, layer in wanted])

    def ranks(self, layer: int, ranks: Sequence[int]) -> list[Outcome]:
        """A probe a rank on one layer."""
        self.prepare(LEARNED, [layer])
        return self.probes([(LEARNED, layer, rank) for rank in ranks])

    def probes(self, wanted: Sequence[tuple[str, int, int]]) -> list[Outcome]:
        """A probe for each (layers, layer, rank)."""
        found: list[Outcome] = []
        start = time.perf_counter()
        with progress_bar("probes", total=len(wanted), unit="probes") as bar:
            for layers, layer, rank in wanted:
                found.append(self.probe(layers, layer, rank))
                bar.advance()
                left = (time.perf_counter() - start) / len(found) * (len(wanted) - len(found))
                said = f"  layer {layer}, {layers}, rank {rank}: F1 {found[-1].f1:.3f}; {len(found)} of {len(wanted)} probes"
                console.print(said + (f", about {left:.0f} s left" if left else ""), highlight=False, markup=False)
        return found

    def probe(self, layers: str, layer: int, rank: int) -> Outcome:
        """One probe, trained and tested."""
        train, valid, test = self.examples(layers, layer)
        width = train.states.shape[1]
        self.shape.check_rank(rank)
        sizes = len(self.labels.constituents), len(self.labels.unary)
        probe = SyntaxProbe(width, rank, *sizes, seed=self.seed)
        identity = {"layers": layers, "layer": layer, "rank": rank, "labels": sizes, "compat": self.method.compat or "paper"}
        folder = None if self.cache is None else self._folder(layers) / self._key(identity)
        trained = fit(probe, train, valid, self.schedule, seed=self.seed, device=self.device, folder=folder)
        return self.outcome(layers, layer, trained, valid, test)

    def outcome(self, layers: str, layer: int, trained: Trained, valid: Examples, test: Examples) -> Outcome:
        """What a trained probe makes of the test snippets."""
        compat = self.method.compat
        predicted = predict(trained.probe, test, self.labels, self.device)
        found = score(predicted, [one.code for one in self.split.test], compat=compat)
        checked = score(predict(trained.probe, valid, self.labels, self.device), [one.code for one in self.split.valid], compat=compat)
        rank = trained.probe.B.shape[1]
        return Outcome(layers, layer, rank, trained, predicted, found, float(checked.f1.mean()), found.interval(self.seed))

    def examples(self, layers: str, layer: int) -> tuple[Examples, Examples, Examples]:
        """Packed states of one layer: to train, to validate and to test on."""
        self.prepare(layers, [layer])
        sides = (self.split.train, self.split.valid, self.split.test)
        parts = torch.split(self._states[layers, layer], [sum(len(one.tokens) for one in side) for side in sides])
        return tuple(  # type: ignore[return-value]  # three of them
            Examples.of([one.code for one in side], states, self.labels) for side, states in zip(sides, parts, strict=True)
        )

    @property
    def schedule(self) -> Schedule:
        return Schedule(**{name: getattr(self.method, name) for name in Schedule.__dataclass_fields__})

    def prepare(self, layers: str, numbers: Sequence[int]) -> None:
        """Make the states of several layers in one pass."""
        missing = [layer for layer in numbers if (layers, layer) not in self._states]
        if not missing:
            return
        model = with_random_layers(self.model, self.seed) if layers == RANDOM else self.model
        title = "the model with random layers" if layers == RANDOM else "the model"
        folder = None if self.cache is None else self._folder(layers)
        with step(f"hidden states of {title}"):
            made = token_states(model, self.speller, self.spelled, missing, folder=folder, title=title)
        self._states |= {(layers, layer): states for layer, states in made.items()}

    def _folder(self, layers: str) -> Path:
        assert self.cache is not None
        return self.cache / ("learned" if layers == LEARNED else f"random-{self.seed}")

    def _key(self, identity: dict[str, Any]) -> str:
        """A name for a probe of these snippets with these settings, trained by this version."""
        data = [(one.code, one.tokens) for one in self.split.all], [len(self.split.train), len(self.split.valid)], self.seed
        return hashlib.sha256(repr((__version__, data, self.schedule, sorted(identity.items()))).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Study:
    """One language: its functions, the probes of layers and of ranks, and the layer that the validation snippets chose."""

    found: Found
    sweep: Sweep
    layers: list[Outcome]
    best: Outcome
    ranks: list[Outcome] = field(default_factory=list)

    @property
    def language(self) -> str:
        return self.found.language

    @property
    def controls(self) -> list[Outcome]:
        """Layer 0, and the best layer under random layers."""
        chosen = [one for one in self.layers if (one.layers, one.layer) == (LEARNED, 0)]
        return chosen + [one for one in self.layers if (one.layers, one.layer) == (RANDOM, self.best.layer)]

    def to_dict(self) -> dict[str, Any]:
        sides = {"train": self.sweep.split.train, "valid": self.sweep.split.valid, "test": self.sweep.split.test}
        return {
            "language": self.language,
            "grammar": self.found.grammar.versions,
            "files_read": self.found.files,
            "files_there": self.found.files_there,
            "functions": {side: len(snippets) for side, snippets in sides.items()},
            "files": {side: len({one.file for one in snippets}) for side, snippets in sides.items()},
            "skipped": dict(self.found.skipped + self.sweep.skipped),
            "labels": {"constituents": len(self.sweep.labels.constituents), "unary": len(self.sweep.labels.unary)},
            "layers": [one.to_dict() for one in self.layers],
            "best_layer": self.best.layer,
            "ranks": [one.to_dict() for one in self.ranks],
            "label_recall": {name: {"there": there, "found": right} for name, (right, there) in self.best.score.labels.items()},
        }


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome with the highest F1 on the validation snippets, so that the test snippets choose nothing."""
    return max(outcomes, key=lambda one: one.validation)


def _said(skipped: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in skipped.most_common()) or "none was found"
