"""Five starts compared on SmolLM2-135M with 200 kB of held-out clinical text: at most six minutes on two cores.

Runs what `regraft compare` runs, the small training of every method and both scorings included; making the inputs is not timed.

    python benchmarks/compare_200kb.py [--inputs DIR]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from regraft.datasets.clinical import write_corpus
from regraft.datasets.models import write_smollm2
from regraft.vocab.compare import compare

METHODS = ["mean", "transformers-default", "constituent-mean", "merge", "align"]
BYTES, LIMIT = 200_000, 360.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=Path, help="folder with smollm2/ and corpus/, such as the demo's; made anew by default")
    inputs = parser.parse_args().inputs
    with tempfile.TemporaryDirectory() as folder:
        if inputs is None:
            inputs = Path(folder)
            write_smollm2(inputs / "smollm2")
            write_corpus(inputs / "corpus")
        start = time.perf_counter()
        done = compare(inputs / "smollm2", corpus=[inputs / "corpus"], extend=500, methods=METHODS, score_bytes=BYTES)
        seconds = time.perf_counter() - start
    if done.report is not None:
        done.report.print()
    holds = seconds <= LIMIT and all(row["error"] is None for row in done.rows)
    print(f"{len(METHODS)} methods on {BYTES:,} bytes: {seconds:.0f} s, limit {LIMIT:.0f} s: {'holds' if holds else 'MISSED'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
