"""The ICNN loss beside the same formulae point by point: `python benchmarks/bias/icnn.py` prints medians of a step and their ratio."""

import statistics
import time

import torch

from regraft.bias import ICNNLoss
from regraft.bias.episodes.distances import FlooredDistance

POINTS, DIM, CLASSES, K, RUNS = 512, 64, 16, 4, 7


def literal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One point after the other, as the formulae are written."""
    near, far, theirs, shares = [], [], [], []
    distances = FlooredDistance()(x, x)
    for i in range(len(x)):
        order = torch.argsort(distances[i])
        order = order[order != i][: K + 1]
        d, same = distances[i][order], y[order] == y[i]
        rival = d[~same].min() if (~same).any() else torch.tensor(torch.inf)
        ratio = d[:K] / (rival + 1e-7)
        ratio = ratio / ratio.max().clamp_min(1)
        if same[:K].any():
            near.append(ratio[same[:K]].mean())
        if (~same[:K]).any():
            far.append(d[:K][~same[:K]].mean())
            theirs.append(d[:K][~same[:K]].max())
        shares.append(same[:K].double().mean())
    lam = (1 - torch.stack(near).mean() + torch.stack(far).mean() / torch.stack(theirs).max()) / 2
    return -((lam + torch.stack(shares).mean()) / 2).log()


def median(step) -> float:
    took = []
    for _ in range(RUNS):
        start = time.perf_counter()
        step()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def main() -> None:
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(CLASSES).repeat(POINTS // CLASSES)
    x = (torch.randn(CLASSES, DIM, generator=draw)[y] * 0.5 + torch.randn(POINTS, DIM, generator=draw)).requires_grad_()
    ours, plain = ICNNLoss(K), literal
    assert torch.allclose(ours(x, y), plain(x, y).float(), atol=1e-5)
    fast, slow = median(lambda: ours(x, y).backward()), median(lambda: plain(x, y).backward())
    print(f"{POINTS} points of {DIM} dimensions, forward and backward, one thread, medians of {RUNS}")
    print(f"point by point {1e3 * slow:8.1f} ms\nICNNLoss       {1e3 * fast:8.1f} ms   {slow / fast:.1f} x faster")


if __name__ == "__main__":
    main()
