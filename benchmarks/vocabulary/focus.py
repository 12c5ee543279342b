"""FOCUS beside deepfocus, after the auxiliary vectors: cosine to every anchor, sparsemax, and the mixed rows.

Both sides get the same token vectors (made: 100 numbers around 300 centers, as fastText trains by default) and the same old rows, and run
in processes of their own with the same number of threads: regraft's `sparsemax_cosine` and the graft's application beside the package's
`focus_additional_token_initialization`. A small run with the unit matrix as the old table compares the weights themselves. The bounds:
>= 10 x faster, peak resident memory <= 1 GB, weights equal to 1e-5.

    python benchmarks/run.py focus [--rival-python PYTHON] [--new 30000] [--anchors 30000] [--runs 3] [--json FILE]

Without `--rival-python` an environment with deepfocus is made on first use.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import inputs
import numpy as np

REPORT = """
peak = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - before, "peak_mb": peak}))
"""
RIVAL = """
import json, os, sys, time, types
import numpy as np, torch
from deepfocus.focus import focus_additional_token_initialization
folder = sys.argv[1]
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
new, anchors, old = (np.load(f"{folder}/{name}.npy") for name in ("new", "anchors", "old"))
token = types.SimpleNamespace
rows = torch.from_numpy(old)
shared = {str(i): token(auxiliary_embedding=v, source_embedding=rows[i]) for i, v in enumerate(anchors)}
def fresh(count):
    return {str(i): token(auxiliary_embedding=v, target=token(id=i)) for i, v in enumerate(new[:count])}
few = dict(list(shared.items())[:2])
focus_additional_token_initialization(few, fresh(2), torch.zeros(2, old.shape[1]))  # compiles, outside the time taken
before, start = time.process_time(), time.perf_counter()
made = focus_additional_token_initialization(shared, fresh(len(new)), torch.zeros(len(new), old.shape[1]))
seconds = time.perf_counter() - start
np.save(f"{folder}/rival.npy", made.numpy())
"""
OURS = """
import json, os, sys, time
import numpy as np, torch
from regraft.graft import Graft
from regraft.graft.similarity import sparsemax_cosine
folder = sys.argv[1]
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
new, anchors, old = (np.load(f"{folder}/{name}.npy") for name in ("new", "anchors", "old"))
before, start = time.process_time(), time.perf_counter()
made = Graft(sparsemax_cosine(new, anchors)).apply(torch.from_numpy(old))
seconds = time.perf_counter() - start
np.save(f"{folder}/ours.npy", made.numpy())
"""


def make_case(folder: Path, new: int, anchors: int, dim: int, seed: int = 0) -> None:
    """Token vectors in clusters, and an old table with `dim` columns (0: the unit matrix, so that rows are the weights)."""
    draw = np.random.default_rng(seed)
    centers = draw.standard_normal((300, 100))
    for name, count in (("new", new), ("anchors", anchors)):
        vectors = centers[draw.integers(0, len(centers), count)] + 0.7 * draw.standard_normal((count, 100))
        np.save(folder / f"{name}.npy", vectors.astype(np.float32))
    old = draw.standard_normal((anchors, dim)) if dim else np.eye(anchors)
    np.save(folder / "old.npy", old.astype(np.float32))


def run(python: str, code: str, folder: Path, threads: int) -> dict[str, float]:
    """One process; its seconds, CPU seconds and peak resident MB."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    done = subprocess.run([python, "-c", code + REPORT, str(folder)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python} failed: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(r[key] for r in runs) for key in runs[0]}


def difference(folder: Path) -> float:
    """Largest absolute difference between the two sides' rows."""
    return float(np.abs(np.load(folder / "ours.npy") - np.load(folder / "rival.npy")).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rival-python", help="Python of an environment with deepfocus")
    parser.add_argument("--new", type=int, default=30_000)
    parser.add_argument("--anchors", type=int, default=30_000)
    parser.add_argument("--dim", type=int, default=576)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.rival_python = options.rival_python or inputs.rival("deepfocus")
    result: dict[str, Any] = {"new": options.new, "anchors": options.anchors, "runs": options.runs, "threads": options.threads}
    sides = {"ours": (sys.executable, OURS), "rival": (options.rival_python, RIVAL)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_case(folder, 500, 2000, 0)
        for python, code in sides.values():
            run(python, code, folder, options.threads)
        result["weight_difference"] = difference(folder)
        make_case(folder, options.new, options.anchors, options.dim)
        measured: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(options.runs):  # in turn, so that both meet the same machine
            for side, (python, code) in sides.items():
                measured[side].append(run(python, code, folder, options.threads))
        result["row_difference"] = difference(folder)
    result |= {side: medians(runs) for side, runs in measured.items()}
    return show(result, options.json)


def show(result: dict[str, Any], file: Path | None) -> int:
    """Print the table and whether the bounds hold; 1 if one does not."""
    print(f"{result['new']} new tokens x {result['anchors']} anchors, median of {result['runs']}, {result['threads']} threads")
    for side, label in (("ours", "regraft"), ("rival", "deepfocus")):
        r = result[side]
        print(f"{label:10} {r['seconds']:9.2f} s {r['cpu_seconds']:9.2f} CPU s {r['peak_mb']:9.0f} MB peak")
    ratio = result["ratio"] = result["rival"]["seconds"] / result["ours"]["seconds"]
    print(f"{ratio:.1f} x faster, weights differ by {result['weight_difference']:.1e}, rows by {result['row_difference']:.1e}")
    checks = {
        ">= 10 x faster": ratio >= 10,
        "peak <= 1 GB": result["ours"]["peak_mb"] <= 1000,
        "weights equal to 1e-5": result["weight_difference"] <= 1e-5,
    }
    for check, holds in checks.items():
        print(f"{'holds' if holds else 'MISSED'}: {check}")
    if file:
        file.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
