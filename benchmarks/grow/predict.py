"""Weights of GPT-2 small and of the 774M shape by LoGAH-T: seconds, and peak memory beside the bytes of the weights.

The hypernetwork is untrained: what a prediction costs does not depend on its values. The peer is GHN-3's dense decoder: its parameters by
formula at a width that needs no tiling, and a forward pass of the largest decoder that fits (`--dense`). The bounds: GPT-2 small in at most
30 s on 2 cores; for the 774M shape a peak of at most 1.3 x its weights.

    python benchmarks/run.py predict [--dense 64] [--json FILE]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from regraft.grow.predict.hypernetwork.decoder import Dense
from regraft.grow.predict.hypernetwork.file import save
from regraft.grow.predict.hypernetwork.network import Hypernet
from regraft.method import resolve

SHAPES = {"small": {"n_embd": 768, "n_layer": 12, "n_head": 12}, "large": {"n_embd": 1280, "n_layer": 36, "n_head": 20}}
CHILD = """import resource, sys
from regraft.cli import main
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def predicted(folder: Path, name: str) -> dict[str, Any]:
    """One prediction in a process of its own."""
    config = folder / f"{name}.yaml"
    config.write_text(json.dumps({"model_type": "gpt2", **SHAPES[name]}))
    words = ["grow", "predict", str(config), "--hypernet", str(folder / "hypernet.safetensors"), "--out", str(folder / name), "--json"]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CHILD, *words], stdout=subprocess.PIPE, text=True, check=True)
    *_, result, peak = done.stdout.splitlines()
    size = sum(one.stat().st_size for one in (folder / name).glob("*.safetensors"))
    bytes_at_peak = int(peak.split()[1]) * 1024
    seconds = {"process_seconds": time.perf_counter() - start, "seconds": json.loads(result)["seconds"]}
    return {**seconds, "weights_mb": size / 1e6, "peak_mb": bytes_at_peak / 1e6, "peak_by_weights": bytes_at_peak / size}


def dense(d: int) -> dict[str, Any]:
    """GHN-3's decoder of width d: one tensor of d x d."""
    decoder = Dense(d, kernel=1)
    start = time.perf_counter()
    with torch.no_grad():
        decoder.matrix(torch.randn(1, d), d, d, 1, 1)
    return {"d": d, "parameters": sum(one.numel() for one in decoder.parameters()), "seconds": time.perf_counter() - start}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dense", type=int, default=384)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network = Hypernet(resolve("weight-predictor", "logah"))
        save(network, Path(folder) / "hypernet.safetensors", {})
        found = {name: predicted(Path(folder), name) for name in SHAPES}
    found["logah_parameters"] = sum(one.numel() for one in network.parameters())
    found["dense_parameters_without_tiling"] = 8 * 5120**3  # d as wide as the 774M shape's perceptron
    found["dense_largest"] = dense(options.dense)
    found["own_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    met = found["small"]["process_seconds"] <= 30 and found["large"]["peak_by_weights"] <= 1.3
    print("holds" if met else "MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
