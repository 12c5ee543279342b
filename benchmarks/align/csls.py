"""CSLS-10 between two whole tables, every word's best translation in both directions, beside the formulas of VecMap's and MUSE's ways.

It is what self-learning and mutual dictionaries need. Neither peer can be installed: PyPI's `vecmap` is another program, MUSE is no
package. So their formulas are written here from what they compute on a CPU: VecMap takes the k largest of each row by k rounds of argmax,
in NumPy, and multiplies the tables four times; MUSE takes both terms by topk, in PyTorch, once more for each direction. All get the same
float32 unit rows and the same number of threads, each in a process of its own, and must name the same translations (but for ties within
float32's rounding). The bounds: >= 2 x less processor time than VecMap's way, peak <= 3 GB.

    python benchmarks/run.py csls [--words 20000] [--dim 300] [--runs 3] [--json FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

K = 10
REPORT = """
peak = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
np.save(f"{folder}/{sys.argv[2]}.npy", best)
print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - before, "peak_mb": peak}))
"""
START = """
import json, os, sys, time
import numpy as np
folder, k = sys.argv[1], 10
x, z = (np.load(f"{folder}/{name}.npy") for name in ("x", "z"))
"""
VECMAP = """
def mean_of_largest(scores):
    total = np.zeros(len(scores), dtype=scores.dtype)
    rows, least = np.arange(len(scores)), scores.min()
    for _ in range(k):
        place = scores.argmax(axis=1)
        total += scores[rows, place]
        scores[rows, place] = least
    return total / k
before, start = time.process_time(), time.perf_counter()
best = []
for one, other in ((x, z), (z, x)):
    hubs = np.concatenate([mean_of_largest(other[i:i + 1000] @ one.T) for i in range(0, len(other), 1000)])
    best += [(one[i:i + 1000] @ other.T - hubs / 2).argmax(axis=1) for i in range(0, len(one), 1000)]
best = np.concatenate(best)
seconds = time.perf_counter() - start
"""
MUSE = """
import torch
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
def hubs_of(one, other):
    return torch.cat([(one[i:i + 1024] @ other.T).topk(k, 1).values.mean(1) for i in range(0, len(one), 1024)])
a, b = torch.from_numpy(x), torch.from_numpy(z)
before, start = time.process_time(), time.perf_counter()
best = []
for one, other in ((a, b), (b, a)):
    left, right = hubs_of(one, other), hubs_of(other, one)
    for i in range(0, len(one), 128):
        scores = 2 * (one[i:i + 128] @ other.T) - left[i:i + 128, None] - right
        best.append(scores.topk(2, 1).indices[:, 0])
best = torch.cat(best).numpy()
seconds = time.perf_counter() - start
"""
OURS = """
import torch
from regraft.align.nearest import Retrieval
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
Retrieval(x[:50], z[:50], k).best_both()  # compiles, outside the time taken
before, start = time.process_time(), time.perf_counter()
best = np.concatenate([found.ids[:, 0] for found in Retrieval(x, z, k).best_both()])
seconds = time.perf_counter() - start
"""
CONTENDERS = {"regraft": OURS, "formula of VecMap": VECMAP, "formula of MUSE": MUSE}


def tables(words: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two tables of unit rows around centers, the one a noisy turn of the other."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(words, dim)) + rng.normal(size=(300, dim))[rng.integers(300, size=words)]
    z = x @ np.linalg.qr(rng.normal(size=(dim, dim)))[0] + rng.normal(size=(words, dim))
    z = z @ np.linalg.svd(z.T @ x)[0] @ np.linalg.svd(z.T @ x)[2]  # back into one space
    return tuple((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for rows in (x, z))  # type: ignore[return-value]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in zip("xz", tables(given.words, given.dim), strict=True):
            np.save(Path(folder, name), rows)
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(given.runs):
            for name, code in CONTENDERS.items():
                call = [sys.executable, "-c", START + code + REPORT, folder, name]
                done = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)
                runs[name].append(json.loads(done.stdout))
        found = {name: np.load(Path(folder, f"{name}.npy")) for name in CONTENDERS}
    rows = [{"way": name, "same": float((found[name] == found["regraft"]).mean())}
            | {key: statistics.median(run[key] for run in runs[name]) for key in ("seconds", "cpu_seconds", "peak_mb")}
            for name in CONTENDERS]  # fmt: skip
    for row in rows:
        row["cpu_ratio"] = row["cpu_seconds"] / rows[0]["cpu_seconds"]
        print(f"{row['way']:20} {row['seconds']:8.1f} s {row['cpu_seconds']:8.1f} CPU s {row['peak_mb']:8.0f} MB  x{row['cpu_ratio']:.2f}"
              f"  same {row['same']:.4%}")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps({"words": given.words, "dim": given.dim, "threads": threads, "rows": rows}, indent=1))
    holds = rows[1]["cpu_ratio"] >= 2 and rows[0]["peak_mb"] <= 3000 and min(row["same"] for row in rows) > 0.999
    print("holds" if holds else "MISSED")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
