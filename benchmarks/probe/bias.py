"""The exact tail of the inductive bias beside SciPy's `ncx2.fit`, which the authors' code calls, on the same space of digits.

t test images by k = 10 classes, sigma 2, 400 training images. `exact` takes the law's eigenvalues and the inversion integral at two errors;
`ncx2.fit` fits 500 drawn errors and takes two tails, without the time to draw them. Medians; the bound: t k of 10,000 in less than a
second. The authors' code itself cannot be imported, so its call of SciPy stands for it.

    python benchmarks/run.py bias [--points 1000] [--runs 3] [--json FILE]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from regraft.probe.probes.inductive_bias.fit import fit_as_released, fit_errors
from regraft.probe.probes.inductive_bias.kernels import kernel_of
from regraft.probe.probes.inductive_bias.law import ErrorLaw
from regraft.probe.probes.inductive_bias.posterior import condition
from regraft.probe.probes.inductive_bias.specs import Spec
from regraft.probe.probes.inductive_bias.task import Task

EPSILONS = (0.02, 0.01)


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--points", type=int, default=1000)
    given.add_argument("--runs", type=int, default=3)
    given.add_argument("--json", type=Path)
    options = given.parse_args()
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    learn, test = order[:400], order[400 : 400 + options.points]
    task = Task.of(X[learn] / 16, y[learn], X[test] / 16, y[test])
    posterior = condition(kernel_of(Spec("rbf"), task.X_train, 2.0), task)
    errors = posterior.law.draw(500, np.random.default_rng(0))
    ways = {
        "exact": lambda: [law_of(posterior).nats(one) for one in EPSILONS],
        "saddle point": lambda: [law_of(posterior).nats(one, "saddlepoint") for one in EPSILONS],
        "our fit": lambda: tails(fit_errors(errors)),
        "ncx2.fit": lambda: tails(fit_as_released(errors)),
    }
    rows = []
    for name, way in ways.items():
        seconds, found = [], []
        for _ in range(options.runs):
            start = time.process_time()
            found = way()
            seconds.append(time.process_time() - start)
        rows.append({"way": name, "cpu_seconds": statistics.median(seconds), "nats": [float(one) for one in found]})
    for row in rows:
        print(f"{row['way']:>13}  {row['cpu_seconds']:8.3f} s  {row['nats'][0]:10.2f} nats at 0.02  {row['nats'][1]:10.2f} at 0.01")
    exact, rival = rows[0]["cpu_seconds"], rows[-1]["cpu_seconds"]
    holds = exact < 1
    verdict = "yes" if holds else "NO"
    print(f"t k = {options.points * 10:,}: ncx2.fit takes {rival / exact:.1f} x the time; under a second: {verdict}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return not holds


def law_of(posterior) -> ErrorLaw:
    """Anew, eigenvalues included."""
    return ErrorLaw.of(posterior.covariance, posterior.mean - posterior.targets, posterior.prior)


def tails(fitted) -> list[float]:
    return [fitted.nats(one, released=True) for one in EPSILONS]


if __name__ == "__main__":
    sys.exit(main())
