"""Depth growth beside mergekit's passthrough, and a model of any depth from a kept gene. The model is SmolLM2-135M (30 layers, float32).

Copy growth: the same layers (all but the last third, then all but the first; 40 in all) by `regraft grow depth --method copy` and by
`mergekit-yaml` with a passthrough recipe, each as its user runs it: a process of its own, in turns. Seconds of the whole process, processor
seconds, peak resident memory, as medians; both results must hold the same tensors. Bounds: regraft at least 3 times as fast, with at most a
quarter of the memory. With `--large` the model is a random Llama of 1.1 billion parameters (22 layers, bfloat16, 2.2 GB): at 135M imports
take most of the time.

Expansion: a gene of `tleg` is learned once, for few steps and outside the clock, and models of 15 and 45 layers are written from it by the
command. Bound: 20 seconds of wall clock each.

    python -m venv VENV && VENV/bin/pip install mergekit==0.1.5
    python benchmarks/run.py depth --mergekit VENV/bin/mergekit-yaml [--runs 3] [--json FILE]
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from regraft.checkpoint import Checkpoint
from regraft.datasets.models import model_folder

FASTER, LIGHTER, EXPANSION = 3.0, 0.25, 20.0
RECIPE = """merge_method: passthrough
dtype: {dtype}
slices:
{slices}
"""
SLICE = "  - sources:\n      - model: {model}\n        layer_range: [{first}, {behind}]"


def measured(command: Sequence[str]) -> tuple[float, float, float]:
    """Wall seconds of `command`, its processor seconds, its peak resident memory in MB. Its output is shown if it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{command[0]} failed:\n{said.read().decode()[-3000:]}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / (1024 if platform.system() == "Linux" else 1024**2)


def regraft(*arguments: str, model: Path | None = None) -> list[str]:
    return [sys.executable, "-m", "regraft", "grow", "depth", str(model or model_folder()), *arguments]


def large(folder: Path) -> Path:
    """A Llama of 1.1 billion parameters, all of them alike, in one file."""
    config = LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    for number, parameter in enumerate(model.parameters()):
        parameter.data.fill_(number / 1000)
    model.save_pretrained(folder)
    return folder


def same_tensors(ours: Path, theirs: Path) -> int:
    """How many tensors both hold, each equal in every value. Ends the run where one differs."""
    first, second = Checkpoint.open(ours), Checkpoint.open(theirs)
    shared = first.tensors.keys() & second.tensors.keys()
    apart = (first.tensors.keys() | second.tensors.keys()) - shared
    layers = [name for name in apart if ".layers." in name]
    different = [name for name in shared if not torch.equal(first.read(name).float(), second.read(name).float())]
    if layers or different:
        raise SystemExit(f"the results differ: {[*layers, *different][:3]}")
    return len(shared)


def copying(mergekit: Path, folder: Path, runs: int, model: Path) -> dict[str, dict[str, float]]:
    """Seconds and MB of both, medians over `runs` after one that warms the disk."""
    recipe = folder / "passthrough.yaml"
    config = json.loads((model / "config.json").read_text())
    layers = config["num_hidden_layers"]
    parts = (0, layers - layers // 3), (layers // 3, layers)
    slices = "\n".join(SLICE.format(model=model, first=first, behind=behind) for first, behind in parts)
    recipe.write_text(RECIPE.format(slices=slices, dtype=config.get("dtype") or config["torch_dtype"]))
    ranges = ",".join(f"{first}-{behind}" for first, behind in parts)
    depth = str(sum(behind - first for first, behind in parts))
    tokenizer = ["--copy-tokenizer"] if (model / "tokenizer.json").is_file() else []
    commands = {
        "regraft": regraft(
            "--layers", depth, "--method", "copy", "--set", f"ranges={ranges}", "--out", str(folder / "regraft"), model=model
        ),
        "mergekit": [str(mergekit), str(recipe), str(folder / "mergekit"), "--no-cuda", *tokenizer],
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, command in commands.items():
            shutil.rmtree(folder / name, ignore_errors=True)
            one = measured(command)
            found[name] += [one] if run else []
    print(f"both hold the same {same_tensors(folder / 'regraft', folder / 'mergekit')} tensors")
    return {
        name: dict(zip(("seconds", "processor", "peak_mb"), map(statistics.median, zip(*all_, strict=True)), strict=True))
        for name, all_ in found.items()
    }


def expanding(folder: Path, runs: int) -> dict[int, tuple[float, ...]]:
    """Wall and processor seconds of writing each depth from a kept gene, medians."""
    text, gene = folder / "text.txt", folder / "gene"
    text.write_text("\n\n".join(f"Line {number} of a text that a gene is learned from." for number in range(200)))
    learn = [
        "--corpus",
        str(text),
        "--steps",
        "1",
        "--set",
        "init=fit",
        "--set",
        "batch_size=1",
        "--set",
        "length=16",
        "--score-bytes",
        "100",
    ]
    measured(regraft("--layers", "2", "--method", "tleg", "--gene", str(gene), "--out", str(folder / "first"), *learn))
    found: dict[int, tuple[float, ...]] = {}
    for depth in (15, 45):
        out = folder / f"layers-{depth}"
        command = regraft("--layers", str(depth), "--method", "tleg", "--gene", str(gene), "--out", str(out), "--overwrite")
        found[depth] = tuple(map(statistics.median, zip(*(measured(command)[:2] for _ in range(runs)), strict=True)))
        shutil.rmtree(out)
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mergekit", type=Path, required=True, help="mergekit-yaml of an environment of its own")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="copy layers of a model of 2.2 GB, and expand none")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        model = large(Path(place) / "large") if given.large else model_folder()
        copies = copying(given.mergekit, Path(place), given.runs, model)
        expansion = {} if given.large else expanding(Path(place), given.runs)
    for name, one in copies.items():
        print(f"{name:10}{one['seconds']:8.1f} s {one['processor']:8.1f} processor s {one['peak_mb']:10.0f} MB")
    faster = copies["mergekit"]["seconds"] / copies["regraft"]["seconds"]
    lighter = copies["regraft"]["peak_mb"] / copies["mergekit"]["peak_mb"]
    print(f"a third more layers by copying: {faster:.2f} times as fast (bound {FASTER}), {lighter:.2f} of the memory (bound {LIGHTER})")
    for depth, (seconds, processor) in expansion.items():
        print(f"{depth} layers from a kept gene: {seconds:.1f} s, {processor:.1f} of the processor (bound {EXPANSION:.0f})")
    if given.json:
        given.json.write_text(json.dumps({"copy": copies, "faster": faster, "memory": lighter, "expansion_seconds": expansion}))
    return 0 if faster >= FASTER and lighter <= LIGHTER and all(one[0] <= EXPANSION for one in expansion.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
