"""What components and gates cost: a training step of a gated DiT beside a plain one, and drawing one class beside drawing a mixed batch.

The bounds: a step at most 1.6 x a plain one (at a width of 96 factors of full rank have 1.5 x the products), and a pass for one class
at most that of a mixed batch. With a width of 384 beside these, where the active rank saves products.

    python benchmarks/run.py split_step
"""

import argparse
import statistics
import sys
import time

import torch

from regraft.concepts.split.layers.cost import cost_of
from regraft.concepts.split.model import Shape, fresh
from regraft.concepts.split.objective import noise_loss

STEP, ALONE = 1.6, 1.0
NAMES = tuple("012345")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    met = True
    for width, learngenes, tailors in ((96, 48, 8), (384, 192, 32)):
        shape = Shape(side=8, channels=1, layers=4, heads=4, width=width)
        plain, gated = fresh(shape, NAMES, learngenes=None), fresh(shape, NAMES, learngenes=learngenes, tailors=tailors)
        step = {name: step_of(split) for name, split in (("plain", plain), ("gated", gated))}
        mixed, alone = torch.arange(64) % 6, torch.zeros(64, dtype=torch.long)
        passes = {"plain": pass_of(plain, alone), "mixed": pass_of(gated, mixed), "one class": pass_of(gated, alone)}
        seconds = medians(step | {f"pass, {name}": run for name, run in passes.items()}, options.repeats)
        ratio, saved = seconds["gated"] / seconds["plain"], seconds["pass, one class"] / seconds["pass, mixed"]
        print(f"width {width}: a step {ratio:.2f} x plain; a pass for one class {saved:.2f} x a mixed one, "
              f"{seconds['pass, one class'] / seconds['pass, plain']:.2f} x plain, at "
              f"{cost_of(gated).megaflops / cost_of(plain).megaflops:.2f} x its operations")  # fmt: skip
        met &= saved <= ALONE and (width > 96 or ratio <= STEP)
    print("holds" if met else "MISSED")
    return 0 if met else 1


def step_of(split):
    images, labels, optimizer = (
        torch.randn(64, 1, 8, 8),
        torch.arange(64) % 6,
        torch.optim.AdamW(split.transformer.parameters(), fused=True),
    )

    def run():
        noise_loss(split.transformer, split.scheduler, images, labels, torch.Generator().manual_seed(0)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def pass_of(split, labels):
    images, steps = torch.randn(len(labels), 1, 8, 8), torch.zeros(len(labels), dtype=torch.long)

    def run():
        with torch.no_grad():
            split.transformer(images, timestep=steps, class_labels=labels)

    return run


def medians(runs, repeats):
    """Processor seconds by name, taken in turn so that a busy machine slows all alike; the first round is not counted."""
    taken = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


if __name__ == "__main__":
    sys.exit(main())
