"""A Poincaré convolution, and one with its batch norm, beside HypLL's at the same shape: seconds and memory of a forward and backward step.

`pip install hypll==0.1.1` into an environment that also has regraft, then `python benchmarks/bias/poincare_layer.py`. Both take points and
give points; weights, offsets and curvature are the same, outputs and gradients are compared before anything is timed. Each side runs in a
process of its own on one thread; seconds are the processor's, memory is how far the peak of the process rises above where it stood before
its first full step (Linux).
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from regraft.bias import PoincareConv2d
from regraft.bias.poincare.ball import exp0, log0
from regraft.bias.poincare.normalization import PoincareBatchNorm

C, RUNS = 0.1, 7
SHAPES = {"8 -> 16": (32, 8, 16, 32), "32 -> 32": (64, 32, 32, 16)}  # images, channels in and out, side; kernel 3 x 3, padding 1
Step = Callable[[], tuple[torch.Tensor, torch.Tensor]]


def given(shape: tuple[int, int, int, int]) -> dict[str, torch.Tensor]:
    """Points well inside the ball, weights of the size of a trained layer's, an upstream gradient."""
    draw = torch.Generator().manual_seed(0)
    images, inputs, outputs, side = shape
    return {
        "x": exp0(0.3 * torch.randn(images, inputs, side, side, generator=draw), C, 1),
        "z": 0.5 * torch.randn(outputs, inputs, 3, 3, generator=draw) / (9 * inputs) ** 0.5,
        "r": 0.1 * torch.randn(outputs, generator=draw),
        "up": torch.randn(images, outputs, side, side, generator=draw),
    }


def ours(shape: tuple[int, int, int, int], norm: bool) -> Step:
    data = given(shape)
    layer = PoincareConv2d(shape[1], shape[2], 3, C, padding=1)
    with torch.no_grad():
        layer.weight.copy_(data["z"])
        layer.offset.copy_(data["r"])
    after = PoincareBatchNorm(shape[2], C) if norm else torch.nn.Identity()
    x = data["x"].requires_grad_()

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        x.grad = None
        found = exp0(after(layer(log0(x, C, 1))), C, 1)
        found.backward(data["up"])
        return found.detach(), x.grad

    return step


def theirs(shape: tuple[int, int, int, int], norm: bool) -> Step:
    from hypll.manifolds.poincare_ball import Curvature, PoincareBall
    from hypll.nn import HBatchNorm2d, HConvolution2d
    from hypll.tensors import ManifoldTensor

    data = given(shape)
    ball = PoincareBall(Curvature(C, constraining_strategy=lambda value: value))
    layer = HConvolution2d(shape[1], shape[2], 3, manifold=ball, padding=1)
    with torch.no_grad():
        layer.weights.tensor.copy_(data["z"].flatten(1).T)
        layer.bias.copy_(data["r"])
    after = HBatchNorm2d(shape[2], manifold=ball, use_midpoint=True) if norm else torch.nn.Identity()
    x = data["x"].requires_grad_()

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        x.grad = None
        found = after(layer(ManifoldTensor(x, manifold=ball, man_dim=1))).tensor
        found.backward(data["up"])
        return found.detach(), x.grad

    return step


def memory(entry: str) -> float:
    """MB of this process by the kernel: VmRSS now, VmHWM at most since `forget_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) / 1024


def forget_peak() -> float:
    """Let VmHWM start anew (Linux); MB in use now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def measure(side: str, name: str, norm: bool) -> None:
    """Print the median processor seconds of a step and its memory: one side, in this process."""
    torch.set_num_threads(1)
    make = ours if side == "ours" else theirs
    make((2, *SHAPES[name][1:3], 8), norm)()  # loads what a first step loads
    step = make(SHAPES[name], norm)
    before = forget_peak()
    step()
    rise = memory("VmHWM") - before
    took = []
    for _ in range(RUNS):
        start = time.process_time()
        step()
        took.append(time.process_time() - start)
    print(json.dumps({"seconds": statistics.median(took), "mb": rise}))


def equal(name: str, norm: bool) -> tuple[float, float]:
    """The greatest difference of outputs and of input gradients, against the greatest of each."""
    pairs = zip(ours(SHAPES[name], norm)(), theirs(SHAPES[name], norm)(), strict=True)
    return tuple(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)  # type: ignore[return-value]


def main() -> None:
    torch.set_num_threads(1)
    print(f"3 x 3 convolution, c = {C}, float32, one thread, forward and backward, medians of {RUNS}")
    for name in SHAPES:
        for norm in (False, True):
            apart = equal(name, norm)
            found = {
                side: json.loads(subprocess.check_output([sys.executable, __file__, side, name, str(int(norm))]))
                for side in ("ours", "theirs")
            }
            a, b = found["ours"], found["theirs"]
            print(f"{name}{' and batch norm' if norm else ''}: outputs within {apart[0]:.0e}, gradients within {apart[1]:.0e}")
            print(f"  HypLL {1e3 * b['seconds']:6.0f} ms {b['mb']:6.0f} MB")
            faster, share = b["seconds"] / a["seconds"], a["mb"] / b["mb"]
            print(f"  ours  {1e3 * a['seconds']:6.0f} ms {a['mb']:6.0f} MB   {faster:.1f} x faster, {share:.2f} x the memory")


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2], sys.argv[3] == "1") if len(sys.argv) > 1 else main()
