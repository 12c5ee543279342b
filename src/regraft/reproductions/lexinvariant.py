"""Lexinvariant language models, tested again on letters: what they learn without knowing any, and what a cipher costs them.

The paper trains 150 million parameters on the Pile for 250,000 steps. Here two layers of 64 numbers read Lee's news as 27 symbols for some
hundred steps: enough to see that nothing depends on what a symbol is called, too little to decipher as the paper's model does. What is
expected was declared before any run of this script.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regraft.bias.lexinvariant.decipher import best_key, by_frequency, names, train_probe
from regraft.bias.lexinvariant.model import LexinvariantLM
from regraft.bias.prior import Plan
from regraft.bias.priors.lexinvariant import Lexinvariant
from regraft.bias.priors.plain_language_model import PlainLanguageModel, SymbolModel, judged
from regraft.bias.priors.semi_lexinvariant import SemiLexinvariant
from regraft.bias.tasks.symbols import ALPHABET, cipher, encode, letters, read_news
from regraft.bias.tasks.task import Task
from regraft.progress import console, progress_bar
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger


def _declared(claim: str, baseline: str, expected: Expectation, metric: str = "nats a letter", unit: str = "nats") -> Declared:
    return Declared(claim, baseline, expected, metric=metric, unit=unit)


SAME = _declared("a cipher changes nothing for a lexinvariant model (0.05 nats)", "the same model, plain text", Expectation(-0.05, 0.05))
LOST = _declared("a cipher costs a model with learned rows a nat or more", "the same model, plain text", Expectation(low=1))
AHEAD = _declared("under a cipher the lexinvariant model is ahead by a nat", "learned rows", Expectation(high=-1))
SLOPE = _declared("lexinvariant: the last quarter of a window costs less than its first 8 letters", "first 8", Expectation(high=-0.1))
CHANCE = _declared("lexinvariant: the last quarter of a window is better than chance", "ln 27", Expectation(high=-0.1))
SEMI = _declared("a fifth of random rows in training costs a model at most 0.1 nats", "learned rows", Expectation(high=0.1))
READ = _declared(
    "1,500 letters of cipher: the probe names more places right than counting letters",
    "counting", Expectation(low=0.1), "places right", "share",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    seeds: int = 3
    blind: int = 800  # steps
    plain: int = 300
    probe: int = 200
    read: int = 1500  # letters of a cipher


QUICK = Size(seeds=1, blind=10, plain=10, probe=5, read=300)
Scores = dict[str, npt.NDArray[np.float64]]


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 5 processor minutes in full."""
    size = QUICK if quick else Size()
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    with progress_bar("seeds", size.seeds, "seeds") as bar:
        for seed in range(size.seeds):
            for name, scores in one_seed(size, seed).items():
                found.setdefault(name, []).append(scores)
                console.print(f"  {name}, seed {seed}: {scores.mean():.3f}", highlight=False)
            bar.advance()
    samples = {name: Sample(np.stack(values), np.ones((len(values), len(values[0])))) for name, values in found.items()}
    run = Ledger(f"{size.seeds} seeds; 2 layers of 64, windows of 128 letters, batches of 16")
    text = "Lee's news, the 50 texts not learned from, and these under a fixed cipher"
    run.settle(SAME, text, samples["lexinvariant, plain text"], samples["lexinvariant, cipher"])
    run.settle(LOST, text, samples["learned rows, plain text"], samples["learned rows, cipher"])
    run.settle(AHEAD, text, samples["learned rows, cipher"], samples["lexinvariant, cipher"])
    run.settle(SLOPE, text, samples["lexinvariant, first 8"], samples["lexinvariant, last quarter"])
    run.settle(CHANCE, text, samples["chance"], samples["lexinvariant, last quarter"])
    run.settle(SEMI, text, samples["learned rows, plain text"], samples["semi-lexinvariant, plain text"])
    run.settle(READ, f"{size.read:,} of these letters at a time", samples["counting, places"], samples["probe, places"])
    rows = [{"run": name, "value": float(np.mean(values))} for name, values in found.items()]
    return Findings(Lexinvariant.paper, run.claims, {"values": rows}, {"Values": rows})


def one_seed(size: Size, seed: int) -> Scores:
    """Nats by window of each model on plain text and cipher; by part of a window; places that are named right."""
    plain, hidden = letters(), letters(ciphered=True, seed=seed)
    ways: dict[str, tuple[SymbolModel, int]] = {
        "lexinvariant": (Lexinvariant(rows="orthonormal"), size.blind),
        "learned rows": (PlainLanguageModel(), size.plain),
        "semi-lexinvariant": (SemiLexinvariant(), size.plain),
    }
    found: Scores = {}
    for name, (way, steps) in ways.items():
        learned = way.learn(plain, Plan(steps=steps, batch=16, seed=seed))
        nats, ciphered = (judged(learned.model, task, seed)[0] for task in (plain, hidden))
        found |= {f"{name}, plain text": nats.mean(1), f"{name}, cipher": ciphered.mean(1)}
        if name == "lexinvariant":
            found |= {"lexinvariant, first 8": nats[:, :8].mean(1), "lexinvariant, last quarter": nats[:, -32:].mean(1)}
            found["chance"] = np.full(len(nats), np.log(len(ALPHABET)))
            found |= reading(learned.model, plain, size, seed)
    return found


def reading(model: LexinvariantLM, plain: Task, size: Size, seed: int) -> Scores:
    """The share of places named right, a value each part of the held-out text under a cipher."""
    probe = train_probe(model, plain.x, steps=size.probe, batch=16, seed=seed)
    key, text = cipher(seed + 100), encode(read_news("lee.cor"))
    found: dict[str, list[float]] = {"probe, places": [], "counting, places": []}
    for part in torch.split(text, size.read)[:-1][:8]:
        hidden = key[part]
        present = [int(one) for one in torch.bincount(hidden).nonzero()]
        readings: dict[str, Callable[[], dict[int, int]]] = {
            "probe, places": lambda hidden=hidden, present=present: best_key(names(model, probe, hidden, seed=seed), present),  # type: ignore[misc]
            "counting, places": lambda hidden=hidden: by_frequency(hidden, plain.x),  # type: ignore[misc]
        }
        for name, read in readings.items():
            found[name].append(_right(read(), hidden, part))
    return {name: np.array(values) for name, values in found.items()}


def _right(key: dict[int, int], hidden: Tensor, plain: Tensor) -> float:
    return float(np.mean([key.get(a, -1) == b for a, b in zip(hidden.tolist(), plain.tolist(), strict=True)]))
