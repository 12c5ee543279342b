"""Encoding sentences, beside sentence-transformers' own `encode` with the same model and pooling: the whole way from a file to a .npy.

Both read the same file, load the same checkpoint, encode by the same batch size and write float32, in turns, in one process. The bound:
regraft encodes at least 0.95 times as many sentences a second of processor time, and the vectors are the same.

    python benchmarks/run.py encode [--texts 2000] [--pooling mean] [--runs 3] [--json FILE]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from regraft.datasets.models import encoder_folder
from regraft.text.encode import encode
from regraft.text.tasks.named import semeval, sick, stsb

MODES = {"mean": "mean", "first": "cls", "maximum": "max", "weighted-mean": "weightedmean", "last-token": "lasttoken"}
BATCH, BOUND = 32, 0.95


def sentences(count: int) -> list[str]:
    """Different sentences of the STS benchmark, SICK and SemEval, as they come."""
    pairs = [*stsb("test"), *stsb("train"), *sick("train"), *sick("test"), *(pair for year in range(2012, 2017) for pair in semeval(year))]
    found = list(dict.fromkeys(text for a, b, _ in pairs for text in (a, b)))
    if len(found) < count:
        raise SystemExit(f"--texts {count}: there are {len(found)}")
    return found[:count]


def ours(file: Path, out: Path, pooling: str) -> None:
    encode(encoder_folder(), [file], out=out, method=pooling, batch_size=BATCH)


def theirs(file: Path, out: Path, pooling: str) -> None:
    texts = [json.loads(line)["text"] for line in file.read_text("utf-8").splitlines()]
    if pooling == "as-is":
        model = SentenceTransformer(str(encoder_folder()), device="cpu")
    else:
        body = Transformer(str(encoder_folder()))
        model = SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension(), MODES[pooling])], device="cpu")
    np.save(out, model.encode(texts, batch_size=BATCH, show_progress_bar=False))


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Processor seconds and seconds."""
    start, processor = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - processor, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--pooling", default="as-is", choices=["as-is", *MODES])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {"regraft": [], "sentence-transformers": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = folder / "texts.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences(given.texts)), "utf-8")
        ways = {"regraft": ours, "sentence-transformers": theirs}
        for run in range(given.runs + 1):
            for name, way in ways.items():
                out = folder / f"{name}.npy"
                found = timed(lambda way=way, out=out: way(file, out, given.pooling))
                figures[name] += [found] if run else []  # the first of each is to warm up
        apart = float(np.abs(np.load(folder / "regraft.npy") - np.load(folder / "sentence-transformers.npy")).max())
    rates = {name: [given.texts / statistics.median(one) for one in zip(*runs, strict=True)] for name, runs in figures.items()}
    ratio = rates["regraft"][0] / rates["sentence-transformers"][0]
    for name, (processor, wall) in rates.items():
        print(f"{name:24}{processor:10.1f} texts a processor second {wall:10.1f} texts a second")
    print(f"{given.texts:,} texts, {given.pooling}: ratio {ratio:.3f} (bound {BOUND}); vectors differ by at most {apart:.1e}")
    if given.json:
        given.json.write_text(json.dumps({"rates": rates, "ratio": ratio, "apart": apart, "texts": given.texts}))
    return 0 if ratio >= BOUND and apart < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
