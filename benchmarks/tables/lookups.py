"""Look-ups of 2^20 random ids in compressed tables for 10^7 ids of width 16, beside `nn.EmbeddingBag` on the plain table.

One thread; every method looks up the same ids in turn with the plain table, without gradients; medians of processor time, and the ratio of
rates. Each compressed table has a tenth of a percent of the plain one's words. The bounds: Hash, CompoEmb, ROBE and Unified as fast as the
plain table, TT-Rec a fifth as fast.

    python benchmarks/run.py lookups [--rows 10000000] [--ids 1048576] [--budget 0.001] [--runs 5] [--json FILE]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from regraft.tables.embeddings.compo import CompoEmbedding
from regraft.tables.embeddings.hash import HashEmbedding
from regraft.tables.embeddings.robe import RobeEmbedding
from regraft.tables.embeddings.tt_rec import TtRecEmbedding
from regraft.tables.embeddings.unified import UnifiedEmbedding

DIM = 16
BOUNDS = {HashEmbedding: 1.0, CompoEmbedding: 1.0, RobeEmbedding: 1.0, UnifiedEmbedding: 1.0, TtRecEmbedding: 0.2}


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--rows", type=int, default=10**7)
    given.add_argument("--ids", type=int, default=2**20)
    given.add_argument("--budget", type=float, default=0.001)
    given.add_argument("--runs", type=int, default=5)
    given.add_argument("--json", type=Path)
    options = given.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ids, bags = torch.randint(0, options.rows, (options.ids,)), torch.arange(options.ids)
    plain = torch.nn.EmbeddingBag(options.rows, DIM, mode="sum")
    rows = []
    for method, bound in BOUNDS.items():
        table = method.from_budget(options.rows, DIM, options.budget)
        own, rival = [], []
        with torch.no_grad():
            for run in range(options.runs + 1):
                taken = [clocked(lambda: table(ids)), clocked(lambda: plain(ids, bags))]  # noqa: B023
                if run:  # the first warms up
                    own.append(taken[0])
                    rival.append(taken[1])
        seconds, beside = statistics.median(own), statistics.median(rival)
        share = table.memory().ratio(options.rows, DIM)
        rows.append({"method": method.name, "seconds": seconds, "plain": beside, "ratio": beside / seconds, "bound": bound, "share": share})
        verdict = "yes" if beside / seconds >= bound else "NO"
        print(
            f"{method.name:>8}  {seconds:7.3f} s  plain {beside:7.3f} s  {beside / seconds:5.2f} x  bound {bound:g} x: {verdict}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return int(any(row["ratio"] < row["bound"] for row in rows))


def clocked(way) -> float:
    start = time.process_time()
    way()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
