"""Four poolings of a frozen decoder, trained over cached states, beside the same steps through the backbone.

SmolLM2-135M, sentences of the STS benchmark; NV-Embed's loss with in-batch negatives. `cache` is the one pass that writes the states,
`heads` all four poolings trained over them, `through` one training step through the frozen backbone as sentence-transformers alone would
take it. The bounds: cache and heads together at most 10 minutes; a step over cached states at least 3 x faster than one through the
backbone.

    python benchmarks/run.py poolings [--texts 800] [--steps 50] [--json FILE]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from regraft.datasets.models import model_folder
from regraft.method import resolve
from regraft.reproductions.nv_embed import POOLINGS, TEMPERATURE, head
from regraft.text.fitting import Budget, fit
from regraft.text.modules.cached_states import CachedStates, cache_states
from regraft.text.tasks.named import stsb
from regraft.text.tuners.nv_embed.blend import Row, dataset, texts_of
from regraft.text.tuners.nv_embed.loss import PolicyContrastive

BATCH, THROUGH = 32, 3  # pairs a step; steps through the backbone


def seconds(model: SentenceTransformer, data: Any, steps: int) -> float:
    """Of `steps` steps of training, all that the trainer does between them included."""
    start = time.perf_counter()
    fit(model, PolicyContrastive(model, TEMPERATURE), data, Budget(steps=steps, batch_size=BATCH, lr=5e-4))
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=800)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pairs = [(a, b) for a, b, score in stsb("train") if score >= 4][: options.texts // 2]
    data = dataset([Row(a, b, ()) for a, b in pairs], [True] * len(pairs))
    backbone = resolve("encoder", "nv-embed", {"pooling": "mean", "bidirectional": False}).build(model_folder(), max_tokens=64)[0]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = cache_states(backbone, texts_of(data), Path(folder) / "states.safetensors")
        cache = time.perf_counter() - start
        states, heads = CachedStates(path), {}
        for pooling in POOLINGS:
            model = SentenceTransformer(modules=[states, *head(pooling, states.get_embedding_dimension())], device="cpu")
            heads[pooling] = seconds(model, data, options.steps)
        backbone.requires_grad_(False)
        through = SentenceTransformer(modules=[backbone, *head("latent", states.get_embedding_dimension())], device="cpu")
        slow = seconds(through, data, THROUGH) / THROUGH
        size = path.stat().st_size
    found = {
        "texts": len(set(texts_of(data))),
        "steps": options.steps,
        "threads": options.threads,
        "cache_seconds": cache,
        "cache_mb": size / 1e6,
        "head_seconds": heads,
        "total_seconds": cache + sum(heads.values()),
        "step_over_cached": statistics.mean(heads.values()) / options.steps,
        "step_through_backbone": slow,
        "through_by_cached": slow / (heads["latent"] / options.steps),
    }
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    met = found["total_seconds"] <= 600 and found["through_by_cached"] >= 3
    print("holds" if met else "MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
