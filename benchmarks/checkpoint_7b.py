"""What it costs to give a 7B-shaped checkpoint 1000 new tokens: peak memory and time beside copying the shards that change.

Makes a 10-shard bf16 checkpoint of at least 6 GB whose untied tables are real size (131072 x 4096, 1.07 GB each; the other tensors are
stand-ins), then runs what `regraft adapt` runs on a checkpoint, in a process of its own: open, hash, graft 1000 rows, write, record.
The bound: peak resident memory <= 3 x changed tables + 500 MB, wall <= 2 x the time to copy the changed shards (read, write, fsync).
Importing libraries takes the same seconds for any model; it is shown apart.

    python benchmarks/checkpoint_7b.py [--dir DIR] [--runs 2] [--json FILE]
"""

import argparse
import functools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from regraft import provenance
from regraft.checkpoint import Appended, Checkpoint, write
from regraft.checkpoint.shards import CODES
from regraft.graft import Graft

VOCAB, DIM, LAYERS, SHARDS, NEW = 131_072, 4096, 32, 10, 1000
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": DIM, "intermediate_size": 14336,
    "num_hidden_layers": LAYERS, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
    "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip


def make_checkpoint(directory: Path, total_bytes: int) -> None:
    """A 10-shard checkpoint; the tables lie in the first and the last shard, as in Llama's own, with stand-ins beside them."""
    directory.mkdir(parents=True)
    filler_rows = int((total_bytes - 2 * VOCAB * DIM * 2) / SHARDS / DIM / 2) + 1
    weight_map, size = {}, 0
    for number in range(SHARDS):
        name = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        tensors = {f"model.layers.{number}.mlp.stand_in.weight": (filler_rows, DIM)}
        if number == 0:
            tensors["model.embed_tokens.weight"] = (VOCAB, DIM)
        if number == SHARDS - 1:
            tensors["lm_head.weight"] = (VOCAB, DIM)
        size += write_random_shard(directory / name, tensors, seed=number)
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "tokenizer.json").write_text("{}")


def write_random_shard(path: Path, tensors: dict[str, tuple[int, int]], seed: int) -> int:
    """Random bf16 rows, written in blocks so that making the checkpoint needs no memory either."""
    header, position = {}, 0
    for name, (rows, columns) in tensors.items():
        header[name] = {"dtype": CODES[torch.bfloat16], "shape": [rows, columns], "data_offsets": [position, position + rows * columns * 2]}
        position += rows * columns * 2
    text = json.dumps(header).encode()
    block = torch.randn(4096, DIM, generator=torch.Generator().manual_seed(seed)).mul_(0.02).bfloat16().view(torch.uint8).numpy().tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = position
        while left:
            left -= file.write(block[:left])
        file.flush()
        os.fsync(file.fileno())
    return position


def adapt(source: Path, out: Path) -> None:
    """What a user's run does to the checkpoint; prints its figures as JSON."""
    start = time.perf_counter()
    transformers.LlamaForCausalLM  # noqa: B018  # transformers imports a model's code when it is first named
    imported = time.perf_counter()
    generator = np.random.default_rng(0)
    checkpoint = Checkpoint.open(source)
    opened = time.perf_counter()
    record = functools.partial(provenance.record, checkpoint, "adapt", method="constituent-mean", seed=0)
    layout = checkpoint.layout
    pieces = [generator.integers(0, VOCAB, size=generator.integers(2, 6)).tolist() for _ in range(NEW)]
    graft = Graft.uniform(pieces, columns=layout.rows)
    values = layout.assign(*(Appended(graft.apply(checkpoint.read(name))) for name in (layout.input[0], layout.head[0])))
    grafted = time.perf_counter()
    save = functools.partial(provenance.save, record())
    hashed = time.perf_counter()
    write(checkpoint, out, tensors=values, extra=lambda directory: graft.save(directory / "graft.npz"), record=save)
    done = time.perf_counter()
    steps = {"open": opened - imported, "graft": grafted - opened, "hash": hashed - grafted, "write": done - hashed}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": done - imported, "import_seconds": imported - start, "steps": steps, "peak_bytes": peak}))


def copy_shards(shards: list[Path], directory: Path) -> float:
    """Seconds to copy `shards` into `directory`, forced to disk."""
    directory.mkdir()
    start = time.perf_counter()
    for shard in shards:
        shutil.copyfile(shard, directory / shard.name)
        with (directory / shard.name).open("rb") as file:
            os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    shutil.rmtree(directory)
    return seconds


def drop_cache(directory: Path) -> None:
    """Every measurement starts with the source on disk only: forget its pages."""
    os.sync()
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(folder: Path, runs: int, total_bytes: int) -> dict[str, Any]:
    """Medians over `runs` of the adaptation and of the copy, taken in turn."""
    source, out = folder / "source", folder / "out"
    make_checkpoint(source, total_bytes)
    changed = sorted({path for path in source.glob("*.safetensors") if path.name.split("-")[1] in ("00001", f"{SHARDS:05}")})
    adapted, copies = [], []
    for _ in range(runs):
        drop_cache(source)
        copies.append(copy_shards(changed, folder / "copy"))
        drop_cache(source)
        child = subprocess.run([sys.executable, __file__, "--adapt", str(source), str(out)], check=True, capture_output=True, text=True)
        adapted.append(json.loads(child.stdout))
        assert Checkpoint.open(out).layout.rows == VOCAB + NEW
        shutil.rmtree(out)
    tables = 2 * VOCAB * DIM * 2
    seconds, copy = statistics.median(run["seconds"] for run in adapted), statistics.median(copies)
    peak = max(run["peak_bytes"] for run in adapted)
    return {
        "checkpoint_bytes": sum(path.stat().st_size for path in source.iterdir()),
        "changed_shard_bytes": sum(path.stat().st_size for path in changed),
        "changed_table_bytes": tables,
        "peak_bytes": peak,
        "peak_limit_bytes": 3 * tables + 500_000_000,
        "seconds": seconds,
        "import_seconds": statistics.median(run["import_seconds"] for run in adapted),
        "copy_seconds": copy,
        "times_copy": seconds / copy,
        "times_copy_limit": 2.0,
        "runs": adapted,
        "copies": copies,
        "holds": peak <= 3 * tables + 500_000_000 and seconds <= 2 * copy,
    }


def show(result: dict[str, Any]) -> None:
    giga = {key: value / 1e9 for key, value in result.items() if key.endswith("_bytes") and isinstance(value, int)}
    middle = sorted(result["runs"], key=lambda run: run["seconds"])[len(result["runs"]) // 2]["steps"]
    rows = [
        ("checkpoint", f"{giga['checkpoint_bytes']:.2f} GB in {SHARDS} shards, tables {giga['changed_table_bytes']:.2f} GB", ""),
        ("peak memory", f"{giga['peak_bytes']:.2f} GB", f"<= {giga['peak_limit_bytes']:.2f} GB"),
        ("time", f"{result['seconds']:.1f} s ({', '.join(f'{step} {value:.1f}' for step, value in middle.items())})", ""),
        ("copying the changed shards", f"{result['copy_seconds']:.1f} s", ""),
        ("importing transformers", f"{result['import_seconds']:.1f} s", ""),
        ("times copy", f"{result['times_copy']:.2f}", f"<= {result['times_copy_limit']:.2f}"),
        ("verdict", "holds" if result["holds"] else "does not hold", ""),
    ]
    for name, value, limit in rows:
        print(f"{name:<28}{value:<60}{limit}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dir", type=Path, help="where to work (default: the system's temporary directory); needs 12 GB")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--size", type=float, default=6.5, help="size of the checkpoint in GB")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--adapt", nargs=2, type=Path, metavar=("SOURCE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.adapt:
        adapt(*options.adapt)
        return 0
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="regraft-bench-") as folder:
        result = measure(Path(folder), options.runs, int(options.size * 1e9))
    show(result)
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
