"""Milliseconds a token of a feed-forward block: dense, masked, and with grouped products, on SmolLM2-135M's layer 26.

All three run in turns in one process on the same tokens. The bound: with top-4 of 16 experts, grouped products take fewer milliseconds a
token than the dense block for sequences of 512 tokens and more, in evaluation and in training.

    python benchmarks/run.py experts [--experts 16] [--top-k 4] [--lengths 1,64,512,2048] [--runs 9] [--json FILE]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from regraft.checkpoint import Checkpoint
from regraft.datasets.models import model_folder
from regraft.grow.experts import to_emoe
from regraft.grow.experts.growers.emoe import EMoE
from regraft.language.loading import load_model

LAYER, LONG = 26, 512
WAYS = ("dense", "masked", "grouped")


def measure(block, found, x, *, train, runs):
    """Median milliseconds a token of each way, taken in turns."""
    taken = {way: [] for way in WAYS}
    for run in range(runs + 1):
        for way in WAYS:
            found.use(way)
            start = time.perf_counter()
            if train:
                block(x).square().mean().backward()
            else:
                with torch.no_grad():
                    block(x)
            if run:  # the first one warms up
                taken[way].append((time.perf_counter() - start) / x.shape[1] * 1000)
    return {way: statistics.median(times) for way, times in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--top-k", type=int, default=4)
    parser.add_argument("--lengths", default="1,64,512,2048")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    model = load_model(Checkpoint.open(model_folder()))
    found = to_emoe(model, EMoE(experts=given.experts, top_k=given.top_k, layers=str(LAYER)))
    block, seen = model.model.layers[LAYER].mlp, {}
    hook = block.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0].detach()))
    longest = max(map(int, given.lengths.split(",")))
    found.use("dense")
    with torch.no_grad():
        model(torch.randint(3, model.config.vocab_size, (1, longest), generator=torch.Generator().manual_seed(0)))
    hook.remove()
    rows = []
    for train in (False, True):
        for length in map(int, given.lengths.split(",")):
            ms = measure(block, found, seen["x"][:, :length].clone().requires_grad_(train), train=train, runs=given.runs)
            row = {
                "pass": "forward and backward" if train else "forward",
                "tokens": length,
                **ms,
                "dense / grouped": ms["dense"] / ms["grouped"],
            }
            rows.append(row)
            print("  ".join(f"{key} {value:.5f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))
    if given.json:
        given.json.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=1))
    missed = [row for row in rows if row["tokens"] >= LONG and row["dense / grouped"] <= 1]
    print(f"bound missed: {missed}" if missed else "the bound holds")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
