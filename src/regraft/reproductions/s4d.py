"""S4D, tested again: what its initial values remember before anything is learned, and what they are worth when a network learns.

The paper's benchmark (Long Range Arena) takes days. Here the states of one layer are read out linearly, as they start; and small networks
learn to repeat a noise later, and to tell digits from 64 pixels in a random order. An earlier look, at another seed, gave the directions.
What is expected was declared before any run of this script.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import expm

from regraft.bias.prior import Plan, Prior
from regraft.bias.priors.plain_recurrent import PlainRecurrent
from regraft.bias.priors.s4d import S4d
from regraft.bias.ssm.initial import legs, s4d_init
from regraft.bias.ssm.network import states_of
from regraft.bias.tasks.sequences import delay, digit_sequences, noise
from regraft.progress import console, progress_bar
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger


def _declared(claim: str, baseline: str, expected: Expectation, metric: str = "accuracy", unit: str = "share") -> Declared:
    return Declared(claim, baseline, expected, metric=metric, unit=unit)


def _late(claim: str, baseline: str, expected: Expectation) -> Declared:
    return _declared(claim, baseline, expected, "relative error", "share of the power")


LIN = "S4D-Lin"
KEPT_INV = _late("untrained, noise to 5 Hz, 1.5 later: S4D-Inv remembers more than S4D-Lin", LIN, Expectation(high=-0.03))
KEPT_LEGS = _late("untrained, noise to 5 Hz, 1.5 later: S4D-LegS remembers more than S4D-Lin", LIN, Expectation(high=-0.03))
LOST_RANDOM = _late("untrained, noise to 5 Hz, 1.5 later: random frequencies lose it", LIN, Expectation(low=0.3))
LOST_REAL = _late("untrained, noise to 5 Hz, 1.5 later: real states lose it", LIN, Expectation(low=0.3))
HALF_B = _late("LegS, N = 128: its normal part driven by half of B stays within 1 %", "all of B", Expectation(high=-0.95))
LATE_RANDOM = _late("learned, a noise 50 steps later: S4D-LegS ahead of random frequencies", "random frequencies", Expectation(high=-0.002))
LATE_GRU = _late("learned, a noise 50 steps later: S4D-LegS ahead of recurrent units", "recurrent units", Expectation(high=-0.002))
SOON_LIN = _declared(
    "permuted digits, 150 steps: S4D-Lin ahead of random frequencies by 10 points", "random frequencies", Expectation(low=0.1)
)
SOON_GRU = _declared("permuted digits, 150 steps: S4D-LegS ahead of recurrent units by 20 points", "recurrent units", Expectation(low=0.2))
END_LIN = _declared(
    "permuted digits, 600 steps: S4D-Lin ahead of random frequencies by a point", "random frequencies", Expectation(low=0.01)
)
END_GRU = _declared("permuted digits, 600 steps: S4D-LegS ahead of recurrent units by a point", "recurrent units", Expectation(low=0.01))
RULE = _declared("permuted digits, 600 steps: the bilinear rule within 2 points of the hold", "zero-order hold", Expectation(-0.02, 0.02))
STARTS = {"S4D-Inv": "inv", "S4D-LegS": "legs", LIN: "lin", "real": "real", "random frequencies": "rand"}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    seeds: int = 3
    soon: int = 150
    end: int = 600
    late: int = 300


QUICK = Size(seeds=1, soon=10, end=20, late=5)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 7 processor minutes in full."""
    size = QUICK if quick else Size()
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    with progress_bar("seeds", size.seeds, "seeds") as bar:
        for seed in range(size.seeds):
            for name, scores in {**untrained(seed), **trained(size, seed)}.items():
                found.setdefault(name, []).append(scores)
                console.print(f"  {name}, seed {seed}: {scores.mean():.3f}", highlight=False)
            bar.advance()
    samples = {name: Sample(np.stack(values), np.ones((len(values), len(values[0])))) for name, values in found.items()}
    run = Ledger(f"{size.seeds} seeds")
    text = "N = 64, step 0.01, 40 units of time of noise to fit C by least squares, 40 to measure"
    for declared, start in ((KEPT_INV, "S4D-Inv"), (KEPT_LEGS, "S4D-LegS"), (LOST_RANDOM, "random frequencies"), (LOST_REAL, "real")):
        run.settle(declared, text, samples[f"{LIN}, 5 Hz, 1.5"], samples[f"{start}, 5 Hz, 1.5"])
    rows = [{"n": n, "half of B": half_b(n, 0.5), "all of B": half_b(n, 1.0)} for n in (8, 32, 128)]
    whole, half = (Sample(np.array([[rows[-1][key]]]), np.ones((1, 1))) for key in ("all of B", "half of B"))
    run.settle(HALF_B, "first four states, sin 3t + cos 7t / 2 over 1.5 units of time; no chance in it", whole, half)
    text = "2 blocks of 32 channels, N = 32, 200 sequences of 256 steps to learn, 100 held out, 300 steps of batches of 50"
    run.settle(LATE_RANDOM, text, samples["delay, random"], samples["delay, legs"])
    run.settle(LATE_GRU, text, samples["delay, recurrent"], samples["delay, legs"])
    text = "2 blocks of 32 channels, N = 32; scikit-learn digits, 1,000 to learn, 797 held out, batches of 50"
    for declared, when, base, method in (
        (SOON_LIN, "soon", "random", "lin"),
        (SOON_GRU, "soon", "recurrent", "legs"),
        (END_LIN, "end", "random", "lin"),
        (END_GRU, "end", "recurrent", "legs"),
        (RULE, "end", "legs", "legs bilinear"),
    ):
        run.settle(declared, text, samples[f"digits, {base}, {when}"], samples[f"digits, {method}, {when}"])
    table = [{"run": name, "value": float(np.mean(values))} for name, values in found.items()]
    return Findings(S4d.paper, run.claims, {"values": table, "half_of_b": rows}, {"Values": table, "Half of B": rows})


def untrained(seed: int) -> dict[str, npt.NDArray[np.float64]]:
    """The error of each start where the noise of some time ago is read from its states by least squares, on noise not fitted on."""
    found = {}
    for name, init in STARTS.items():
        a, b = s4d_init(init, 64, generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
        for cut, late in ((2, 0.5), (2, 1.5), (5, 0.5), (5, 1.5)):
            u = noise(1, 8000, cut * 0.01, torch.Generator().manual_seed(seed))[0]
            states = states_of(a, b, 0.01, u)
            read = torch.cat([states.real, states.imag], 1).numpy()
            asked, steps = u.double().numpy(), round(late / 0.01)
            x, y = read[steps:], asked[:-steps]
            fit, held = slice(300, 4000), slice(4000, None)
            gram = x[fit].T @ x[fit]
            ridge = 1e-8 * np.trace(gram) / len(gram) * np.eye(len(gram))
            c = np.linalg.solve(gram + ridge, x[fit].T @ y[fit])
            found[f"{name}, {cut} Hz, {late}"] = np.array([np.square(x[held] @ c - y[held]).mean() / np.square(y[held]).mean()])
    return found


def half_b(n: int, share: float, dt: float = 1e-3) -> float:
    """How far the first four states of (S, share B) are from those of LegS, in proportion to these."""
    root = np.sqrt(2 * np.arange(n) + 1)
    exact = -np.tril(np.outer(root, root), -1) - np.diag(np.arange(n) + 1)
    times = np.arange(0, 1.5, dt)
    u = np.sin(3 * times) + 0.5 * np.cos(7 * times)
    runs = []
    for matrix, b in ((exact, root), (legs(n)[0].numpy(), share * root)):
        step = expm(np.block([[matrix, b[:, None]], [np.zeros((1, n + 1))]]) * dt)
        x, states = np.zeros(n), []
        for now in u:
            x = step[:n, :n] @ x + step[:n, n] * now
            states.append(x[:4])
        runs.append(np.array(states))
    return float(np.linalg.norm(runs[1] - runs[0]) / np.linalg.norm(runs[0]))


def trained(size: Size, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of networks on the delay and on permuted digits."""
    ways: dict[str, Prior] = {"legs": S4d(), "random": S4d(init="rand"), "recurrent": PlainRecurrent()}
    task, plan = delay(seed=seed), Plan(steps=size.late, seed=seed)
    found: dict[str, Any] = {f"delay, {name}": way.learn(task, plan).scores for name, way in ways.items()}
    ways |= {"lin": S4d(init="lin"), "inv": S4d(init="inv"), "legs bilinear": S4d(disc="bilinear")}
    task = digit_sequences(permuted=True, seed=seed)
    for name, way in ways.items():
        for when, steps in (("soon", size.soon), ("end", size.end)):
            found[f"digits, {name}, {when}"] = way.learn(task, Plan(steps=steps, seed=seed)).scores
    return found
