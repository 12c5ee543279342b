"""FOCUS, tested again: rows of a new language's tokenizer mixed from shared tokens, against random rows, the default, and WECHSEL.

The paper exchanges XLM-R's tokenizer for ones of single languages, with fastText vectors of hundreds of MB of text, and trains on. Here
SmolLM2-135M gets a Vietnamese tokenizer in place of its own, and all vectors are trained on the 10,000 sentences at hand (10 epochs: at the
paper's 3 all vectors of so little text are alike). What is expected was declared below before any run: directions from the paper.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from regraft.method import resolve
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.reproductions.harness.starts import hold
from regraft.reproductions.harness.vietnamese import Setting, precision
from regraft.reproductions.harness.word_vectors import bilingual_aids
from regraft.vocab.initializer import Initializer
from regraft.vocab.initializers.focus import Focus
from regraft.vocab.initializers.wechsel import Wechsel

RANDOM, DEFAULT = "univariate", "transformers-default"
VI = "tokenizer replaced; held-out Vietnamese"
BEFORE = {
    RANDOM: Declared("step 0: FOCUS beats random rows by at least 0.2 bit", "univariate (N(mu, sigma))", Expectation(high=-0.2)),
    DEFAULT: Declared("step 0: FOCUS beats the library's default", DEFAULT, Expectation(high=0.0)),
    "wechsel": Declared("step 0: FOCUS is not worse than WECHSEL", "wechsel", Expectation(high=0.0)),
}
AFTER = {
    RANDOM: Declared("after the same training FOCUS is still ahead of random rows by 0.02 bit", "univariate", Expectation(high=-0.02)),
    DEFAULT: Declared("after the same training FOCUS is still ahead of the library's default", DEFAULT, Expectation(high=0.0)),
}
NOTE = "Tokens that both tokenizers have are copied under every start; all vectors know 10,000 sentences a language."


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    pieces: int = 5000
    sentences: int = 10_000
    vietnamese: int = 32
    english: int = 2
    seeds: int = 3
    steps: int = 20
    points: int = 0


QUICK = Size(pieces=1500, sentences=1500, vietnamese=6, english=2, seeds=1, steps=2, points=0)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 15 processor minutes in full, 1 with `quick`."""
    size = QUICK if quick else Size()
    setting = Setting.prepare(1, sentences=size.sentences, vietnamese=size.vietnamese, english=size.english).replaced(size.pieces)
    starts: dict[str, Initializer] = {"focus": Focus(epochs=10), "wechsel": Wechsel()}
    starts |= {name: resolve("initializer", name) for name in (RANDOM, DEFAULT)}
    with TemporaryDirectory() as folder:
        aids = [bilingual_aids(Path(folder), setting.english[: size.sentences], setting.vietnamese, seed) for seed in range(size.seeds)]
        settings = [dataclasses.replace(setting, aids=each) for each in aids]
        contest = hold(settings, starts, ["focus", RANDOM, DEFAULT], steps=size.steps, points=size.points)
    run = Ledger(str(setting))
    for name, declared in BEFORE.items():
        run.settle(declared, VI, contest.before[name], contest.before["focus"], NOTE)
    how = f"{size.steps} steps of 512 tokens, tables and the outer two layers at either end, lr 1e-3. {NOTE}"
    for name, declared in AFTER.items():
        run.settle(declared, VI, contest.after[name], contest.after["focus"], how)
    return Findings(Focus.paper, run.claims, {"precision": precision(), **contest.extra}, contest.tables, contest.figures)
