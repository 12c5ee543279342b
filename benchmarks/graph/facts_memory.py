"""What a big graph of facts costs in memory: a file of 10^7 lines read, and NFE trained and judged with as many entities as WN18RR has.

Facts are made. The bounds: reading takes at most 2 GiB more than Python with this library does; the model, a part of an epoch and the ranks
of some held-out facts at most 2 GB in all.

    python benchmarks/run.py facts_memory [--lines 10000000] [--dim 128]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ENTITIES, RELATIONS, TEST = 40_943, 11, 1000  # WN18RR's; its 86,835 facts of training are cut by --facts
GB = 1e9
READ_BOUND, MODEL_BOUND = 2 * 1.073741824, 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--facts", type=int, default=10_000, help="of training, in the epoch that is measured")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--part", choices=["read", "model"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return {"read": read, "model": model}[options.part](options)
    given = [sys.executable, __file__, "--lines", str(options.lines), "--facts", str(options.facts), "--dim", str(options.dim)]
    return max(subprocess.run([*given, "--part", part], check=False).returncode for part in ("read", "model"))


def read(options) -> int:
    from regraft.graph.facts.lines import read_facts

    with tempfile.TemporaryDirectory() as folder:
        path, draw = Path(folder) / "facts.tsv", np.random.default_rng(0)
        with path.open("w", encoding="utf-8") as file:
            for start in range(0, options.lines, 1 << 18):
                count = min(1 << 18, options.lines - start)
                heads, tails = draw.integers(0, options.lines // 10, (2, count))
                names = draw.integers(0, 500, count)
                file.writelines(f"entity/{h}\trelation/{r}\tentity/{t}\n" for h, r, t in zip(heads, names, tails, strict=True))
        before, start = peak(), time.process_time()
        found = read_facts([path])
        seconds, more = time.process_time() - start, peak() - before
        size = path.stat().st_size / GB
    print(f"{options.lines:,} lines ({size:.2f} GB, {len(found.entities):,} entities): {seconds:.0f} s, {more:.2f} GB more", flush=True)
    return told(more <= READ_BOUND)


def model(options) -> int:
    from regraft.graph.facts.data import Facts
    from regraft.graph.facts.learning import Schedule, learn, ranks
    from regraft.graph.facts.models.nfe import NFE

    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    rows = torch.from_numpy(draw.integers(0, [ENTITIES, RELATIONS, ENTITIES], (options.facts + 100 + TEST, 3)))
    names = (tuple(map(str, range(ENTITIES))), tuple(map(str, range(RELATIONS))))
    facts = Facts("made", *names, rows[: options.facts], rows[options.facts : options.facts + 100], rows[-TEST:])
    start = time.process_time()
    learned = learn(NFE(dim=options.dim), facts, Schedule(epochs=1))
    ranks(learned.model, facts.test, [facts.train, facts.valid])
    seconds, most = time.process_time() - start, peak()
    what = f"NFE-2, {ENTITIES:,} entities of 3 x {options.dim} numbers, {options.facts:,} facts and {TEST:,} ranked"
    print(f"{what}: {seconds:.0f} s, {most:.2f} GB in all", flush=True)
    return told(most <= MODEL_BOUND)


def peak() -> float:
    """GB of resident memory, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB


def told(met: bool) -> int:
    print("holds" if met else "MISSED", flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
