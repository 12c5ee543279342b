"""The kernel of a diagonal state space, forward and backward, beside the plain Vandermonde einsum and the PyTorch path of state-spaces/s4.

H = 256, N = 64, L = 4096, one thread, each in a process of its own. The bounds: 3 x as fast as both, a quarter of their memory; the same
kernel and gradients to 1e-4 of their size; a step equal to the convolution to 1e-5.

S4 is no package: give a folder with a checkout of github.com/state-spaces/s4, and a Python that has what its file imports (torch,
pytorch-lightning, einops, opt_einsum, scipy).

    python benchmarks/bias/ssm_kernel.py [--s4 FOLDER --python PYTHON] [--runs 5]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

H, N, L = 256, 64, 4096
SIDE = """
import json, resource, statistics, sys, time
import numpy as np, torch
torch.set_num_threads(1)
way, given, s4, runs, length = sys.argv[1], np.load(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
parts = [torch.from_numpy(given[name]).requires_grad_() for name in ("dt", "real", "imag", "c")]
if way == "s4":
    sys.path.insert(0, s4)
    from models.s4.s4 import log_vandermonde_naive
elif way == "regraft":
    from regraft.bias.ssm.vandermonde import vandermonde

def kernel():
    dt, real, imag, c = parts
    a = torch.complex(-real.exp(), imag)
    z = a * dt.exp()
    scaled = torch.view_as_complex(c) * (z.exp() - 1) / a
    if way == "s4":
        return log_vandermonde_naive(scaled, z, length)
    if way == "regraft":
        return 2 * vandermonde(scaled.unsqueeze(1), z, length)[:, 0]
    return 2 * torch.einsum("hn,hnl->hl", scaled, (z.unsqueeze(-1) * torch.arange(length)).exp()).real

weights = torch.from_numpy(given["weights"])
before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
for _ in range(runs):
    for part in parts:
        part.grad = None
    start = time.process_time()
    found = kernel()
    (found * weights).sum().backward()
    seconds.append(time.process_time() - start)
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
np.savez(sys.argv[6], kernel=found.detach().numpy(), **{str(n): part.grad.numpy() for n, part in enumerate(parts)})
print(json.dumps({"seconds": statistics.median(seconds), "mb": peak}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--s4", help="a checkout of state-spaces/s4")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs it")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    import numpy as np

    draw = np.random.default_rng(0)
    given = {
        "dt": np.log(10 ** draw.uniform(-3, -1, (H, 1))),
        "real": np.full((H, N // 2), np.log(0.5)),
        "imag": np.tile(np.pi * np.arange(N // 2), (H, 1)),
        "c": draw.normal(size=(H, N // 2, 2)) / 2**0.5,
        "weights": draw.normal(size=(H, L)),
    }
    ways = {"regraft": sys.executable, "einsum": sys.executable} | ({"s4": options.python} if options.s4 else {})
    rows, outputs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "given.npz"
        np.savez(data, **{name: value.astype(np.float32) for name, value in given.items()})
        for way, python in ways.items():
            out = Path(folder) / f"{way}.npz"
            call = [python, "-c", SIDE, way, str(data), options.s4 or "", str(options.runs), str(L), str(out)]
            done = subprocess.run(call, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            rows[way] = json.loads(done.stdout.strip().splitlines()[-1])
            outputs[way] = dict(np.load(out))
    ours, met = rows["regraft"], True
    for way, row in rows.items():
        row["times_regraft_seconds"] = row["seconds"] / ours["seconds"]
        row["times_regraft_mb"] = row["mb"] / ours["mb"]
        row["differs_by"] = max(float(np.abs(outputs[way][key] - one).max() / np.abs(one).max()) for key, one in outputs["regraft"].items())
        if way != "regraft":
            met &= row["times_regraft_seconds"] >= 3 and row["times_regraft_mb"] >= 4 and row["differs_by"] <= 1e-4
    rows["step beside convolution"] = {"differs_by": step_error()}
    met &= rows["step beside convolution"]["differs_by"] <= 1e-5
    print(json.dumps(rows, indent=1))
    print("holds" if met else "MISSED")
    return 0 if met else 1


def step_error() -> float:
    """Greatest difference between steps and the convolution over L, in proportion to the greatest output."""
    import torch

    from regraft.bias import S4D, S4DConfig

    torch.manual_seed(0)
    layer, u = S4D(S4DConfig(d_model=16, d_state=N)), torch.randn(1, L, 16)
    with torch.no_grad():
        whole, state, far = layer(u), layer.initial_state(1), 0.0
        for at in range(L):
            y, state = layer.step(u[:, at], state)
            far = max(far, float((y - whole[:, at]).abs().max()))
    return far / float(whole.abs().max())


if __name__ == "__main__":
    sys.exit(main())
