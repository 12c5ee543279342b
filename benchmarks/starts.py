"""Every start in one table: SmolLM2-135M and 500 pieces from 2 MB of Vietnamese or clinical text, or less of another script.

    python benchmarks/run.py starts --text vietnamese --out DIR                         every method; 25 minutes
    python benchmarks/run.py starts --text clinical --methods auto,merge --train 5min   who is first after five minutes
    ... --score-bytes 40000 --finalists all                                             surer figures, and every start trained

States whether `auto` comes first before and after training (within 1 % at step 0), and what all methods took, bound 25 minutes.
Vietnamese gets every aid: MiniLM as donor, word vectors of both languages and a dictionary, parallel text. Clinical text gets the donor.
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path

import torch
from inputs import model_folder

from regraft import datasets
from regraft.cli.adapt import training_from
from regraft.cli.compare import finalists_from
from regraft.datasets.clinical import hpo_documents
from regraft.datasets.models import encoder_folder
from regraft.reproductions.harness.vocab.vietnamese import read_lines
from regraft.reproductions.harness.vocab.word_vectors import bilingual_aids
from regraft.vocab.compare import DEFAULT_TRAINING, FINALISTS, SCORE_BYTES, compare
from regraft.vocab.initializer import Aids

LIMIT = 25 * 60.0
NTREX = {"chinese": "zho-CN", "tamil": "tam", "sinhala": "sin", "amharic": "amh", "german": "deu"}


def documents(text: str) -> list[str]:
    if text == "vietnamese":
        return read_lines("vi.train")
    if text == "clinical":
        with datasets.fetch("mts-dialog", "train.csv").open(encoding="utf-8", newline="") as file:
            notes = [" ".join(row["section_text"].split()) for row in csv.DictReader(file)]
        return [*notes, *hpo_documents()]
    return datasets.fetch("ntrex-128", f"{NTREX[text]}.txt").read_text(encoding="utf-8").splitlines()


def aids(text: str, folder: Path) -> Aids:
    donor = encoder_folder()
    if text != "vietnamese":
        return Aids(donor=donor)
    words = bilingual_aids(folder, read_lines("en.train"), read_lines("vi.train"), seed=0)
    bitext = (datasets.fetch("en-vi-wikipedia", "en-vi.en"), datasets.fetch("en-vi-wikipedia", "en-vi.vi"))
    return Aids(donor=donor, vectors=words.vectors, source_vectors=words.source_vectors, dictionary=words.dictionary, bitext=bitext)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", choices=["vietnamese", "clinical", *NTREX], default="vietnamese")
    parser.add_argument("--methods", default="all")
    parser.add_argument("--train", help="as `regraft compare --train`: 5min; by default ten steps")
    parser.add_argument("--extend", type=int, default=500)
    parser.add_argument("--score-bytes", type=int, default=SCORE_BYTES)
    parser.add_argument("--finalists", type=finalists_from, default=FINALISTS, help="how many starts are trained, or all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keeps finished rows and the page; the same call goes on there")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as made:
        folder = given.out or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        corpus = folder / f"{given.text}.txt"
        corpus.write_text("\n\n".join(documents(given.text)), encoding="utf-8")
        help_at_hand = aids(given.text, folder)
        began = time.perf_counter()
        done = compare(
            model_folder(),
            corpus=[corpus],
            extend=given.extend,
            methods="all" if given.methods == "all" else given.methods.split(","),
            score_bytes=given.score_bytes,
            finalists=given.finalists,
            training=training_from(given.train, None, curve=False) if given.train is not None else DEFAULT_TRAINING,
            aids=help_at_hand,
            seed=given.seed,
            out=folder / "comparison",
        )
        seconds = time.perf_counter() - began
    print(f"{given.text}, seed {given.seed}, {torch.get_num_threads()} threads")
    if done.report is not None:
        done.report.print()
    return verdict(done.rows, seconds if given.methods == "all" else None)


def verdict(rows: list[dict], seconds: float | None) -> int:
    """Print which bounds hold; 1 if one does not."""
    mine = next((row for row in rows if row["method"] == "auto"), None)
    held = []
    for field, slack in (("bits_per_byte", 1.01), ("bits_per_byte_after", 1.0)):
        others = {row["method"]: row[field] for row in rows[1:] if row[field] is not None and row["method"] != "auto"}
        if mine is None or mine[field] is None or not others:
            continue
        best = min(others, key=lambda name: others[name])
        held.append(mine[field] <= slack * others[best])
        print(f"{field}: auto {mine[field]:.4f}, best other {best} {others[best]:.4f}: {'holds' if held[-1] else 'MISSED'}")
    if seconds is not None:
        held.append(seconds <= LIMIT)
        print(f"all methods: {seconds / 60:.1f} minutes, bound {LIMIT / 60:.0f}: {'holds' if held[-1] else 'MISSED'}")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
