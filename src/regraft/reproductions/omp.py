"""OMP, tested again: a tokenizer transplanted by orthogonal matching pursuit over a donor's rows, without training.

The paper moves Llama 3 to Mistral NeMo's tokenizer and Qwen to Llama's, between decoders that share half their tokens; here SmolLM2-135M
gets the WordPiece vocabulary of a sentence encoder, all-MiniLM-L6-v2, whose table is the donor, and English in lower case is scored. What
is expected was declared below before any full run: directions from the paper.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regraft.datasets.models import encoder_folder
from regraft.evaluation import Score
from regraft.language.precision import precision
from regraft.method import resolve
from regraft.progress import console, step
from regraft.report.figures import bars
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.reproductions.harness.vocab.setting import Setting, Subject, score
from regraft.reproductions.harness.vocab.vietnamese import vietnamese_setting
from regraft.tokenizer import Tokenizer
from regraft.vocab.change import replace as exchange
from regraft.vocab.initializer import Aids, Initializer
from regraft.vocab.initializers.omp import OMP

RANDOM, MEAN, PIECES, NEIGHBORS = "univariate", "mean", "constituent-mean", "common-interpolation"
EN = "WordPiece vocabulary; held-out English in lower case"
CLAIMS = {
    MEAN: Declared("OMP beats the mean row by at least 0.5 bit", "mean of all rows", Expectation(high=-0.5)),
    RANDOM: Declared("OMP beats random rows by at least 0.5 bit", "univariate (N(mu, sigma))", Expectation(high=-0.5)),
    NEIGHBORS: Declared("OMP is not worse than the nearest shared tokens", "common-interpolation", Expectation(high=0.0)),
    PIECES: Declared("OMP is not worse than the mean of the old pieces, which needs no donor", PIECES, Expectation(high=0.0)),
}
MORE_ATOMS = Declared("64 atoms are not worse than 8", "omp, k = 8", Expectation(high=0.0))
CONVEX = Declared("weights made convex are not worse than signed ones", "omp, signed weights", Expectation(high=0.0))


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    sentences: int = 80
    seeds: int = 3


QUICK = Size(sentences=6, seeds=1)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 10 processor minutes in full, 3 with `quick`."""
    size = QUICK if quick else Size()
    setting = prepare(size)
    starts: dict[str, Initializer] = {
        "omp": OMP(),
        "omp, k = 8": OMP(k=8),
        "omp, normalized atoms": OMP(atoms="normalized"),
        "omp, convex": OMP(weights="convex"),
    }
    starts |= {name: resolve("initializer", name) for name in (NEIGHBORS, "landmark-pca", PIECES, MEAN, RANDOM)}
    found: dict[str, list[Score]] = {}
    subject: Subject | None = None
    with step("starts"):
        for name, start in starts.items():
            for seed in range(size.seeds if name == RANDOM else 1):
                subject = setting.started(start, seed, subject)
                found.setdefault(name, []).append(score(subject, setting.english_held_out))
            console.print(f"  {name}: {found[name][-1].bits_per_byte:.3f}", highlight=False)
    run = Ledger(f"SmolLM2-135M-Instruct; tokenizer and donor: all-MiniLM-L6-v2, {len(setting.change.new_ids):,} tokens to start")
    samples = {name: Sample.of_scores(scores) for name, scores in found.items()}
    for name, declared in CLAIMS.items():
        run.settle(declared, EN, samples[name], samples["omp"])
    run.settle(MORE_ATOMS, EN, samples["omp, k = 8"], samples["omp"])
    run.settle(CONVEX, EN, samples["omp"], samples["omp, convex"])
    untouched = score(setting.untouched(), setting.english_held_out).bits_per_byte
    rows: list[dict[str, Any]] = [{"start": "untouched, old tokenizer", "en": untouched}]
    rows += [{"start": name, "en": float(np.mean([s.bits_per_byte for s in scores]))} for name, scores in found.items()]
    title = "Starts (bits per byte of English in lower case)"
    figure = bars({row["start"]: row["en"] for row in rows}, title="bits per byte")
    return Findings(OMP.paper, run.claims, {"precision": precision(), "starts": rows}, {title: rows}, {title: figure})


def prepare(size: Size) -> Setting:
    """SmolLM2 with the donor's tokenizer in place of its own. Raises `CheckpointError` where the donor's package is missing."""
    donor = encoder_folder()
    setting = vietnamese_setting(1, sentences=1000, vietnamese=1, english=size.sentences)
    lower = [text.lower() for text in setting.english_held_out]
    change = exchange(setting.tokenizer, Tokenizer.from_directory(donor))
    return replace(setting, change=change, english_held_out=lower, aids=Aids(donor=donor))
