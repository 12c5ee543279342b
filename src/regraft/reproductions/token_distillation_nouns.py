"""Token distillation without a corpus: English nouns learned from passages that the model writes itself.

The paper adds biomedical words to models of 3 to 8 billion parameters; here SmolLM2-135M gets twenty nouns of two pieces or more as tokens.
They were drawn once, with NumPy's generator at seed 0, from the 3,835 noun lemmas of WordNet 3.1 that are lower-case letters only, have a
sense counted in tagged text, and that this model spells in several pieces. What is measured is passages that it writes from other seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from regraft.checkpoint import Checkpoint
from regraft.datasets.models import model_folder
from regraft.evaluation import Score
from regraft.language.loading import load_model
from regraft.language.precision import precision
from regraft.method import resolve
from regraft.progress import console, step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.reproductions.harness.vocab.hidden_states import CLOSER, distance, stacked
from regraft.reproductions.harness.vocab.setting import score
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.vocab.change import add_words
from regraft.vocab.initializer import Initializer, Target
from regraft.vocab.initializers.token_distillation import TokenDistillation
from regraft.vocab.initializers.token_distillation.generated import write_passages
from regraft.vocab.initializers.token_distillation.pairing import Passage
from regraft.vocab.setting import Live, Setting

NOUNS = (
    "airspeed", "arizona", "beggar", "cohesiveness", "drizzle", "fadeout", "leyte", "liverpool", "menarche", "missouri", "olympics",
    "passerby", "patter", "petulance", "rejoicing", "sixties", "stairway", "titer", "unambiguity", "watchman",
)  # fmt: skip
START, OWN, FAST = "constituent-mean", "token-distillation", "token-distillation, lr 1e-3"
WRITTEN = "passages that the untouched model wrote behind each noun, by seeds that no training used"
LOWER = Declared("such text costs less than with the mean of the old pieces", START, Expectation(high=0.0))
HELD_OUT_SEED = 1000  # training writes from seeds 0, 1, ...


@dataclass(frozen=True)
class Size:
    """How much of everything: `snippets` a noun (the paper's 100 would take an hour), by seeds at the paper's rate and at a tenfold one."""

    nouns: int = len(NOUNS)
    snippets: int = 25
    own_seeds: int = 1
    fast_seeds: int = 2
    held_out: int = 8


QUICK = Size(nouns=4, snippets=4, fast_seeds=1, held_out=2)


@dataclass(frozen=True, kw_only=True)
class Nouns(Setting):
    """The model, its tokenizer with nouns added, and held-out passages that hold them, written by `writer`, the untouched model."""

    writer: Live
    held_out: list[Passage]

    @classmethod
    def prepare(cls, size: Size) -> "Nouns":
        checkpoint = Checkpoint.open(model_folder(), vocabulary=True)
        tokenizer = Tokenizer.from_directory(checkpoint.path)
        nouns = NOUNS[: size.nouns]
        change = add_words(tokenizer, nouns)
        target = Target(ids=change.new_ids, tokenizer=change.tokenizer, source_ids=change.source_ids, old_tokenizer=tokenizer)
        writer = load_model(checkpoint), load_tokenizer(tokenizer)
        wanted = {change.tokenizer.encode(f" {noun}")[0]: size.held_out for noun in nouns}
        with step("writing held-out passages"):
            written = list(write_passages(*writer, target, wanted, TokenDistillation.length, temperature=1.0, seed=HELD_OUT_SEED))
        return cls(checkpoint=checkpoint, tokenizer=tokenizer, change=change, writer=writer, held_out=written)

    @property
    def texts(self) -> list[str]:
        return [self.tokenizer.decode(passage.old.tolist()) for passage in self.held_out]


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 60 processor minutes in full, 1 with `quick`."""
    size = QUICK if quick else Size()
    setting = Nouns.prepare(size)
    run = Ledger(f"SmolLM2-135M-Instruct; {size.nouns} nouns of WordNet 3.1 as tokens")
    own = TokenDistillation(snippets_from="model", snippets=size.snippets, minutes=None)
    fast = TokenDistillation(snippets_from="model", snippets=size.snippets, lr=1e-3, minutes=None)
    starts: dict[str, tuple[Initializer, int]] = {START: (resolve("initializer", START), 1)}
    starts |= {OWN: (own, size.own_seeds), FAST: (fast, size.fast_seeds)}
    distances: dict[str, list[Sample]] = {name: [] for name in starts}
    scores: dict[str, list[Score]] = {name: [] for name in starts}
    rows, subject = [], None
    for name, (start, seeds) in starts.items():
        with step(name):
            for seed in range(seeds):
                subject = setting.started(start, seed, subject)
                distances[name].append(distance(setting.writer, subject, [[passage] for passage in setting.held_out]))
                scores[name].append(score(subject, setting.texts))
        bits = float(np.mean([s.bits_per_byte for s in scores[name]]))
        rows.append({"start": name, "bits per byte": bits, "distance": stacked(distances[name]).value})
        console.print(f"  {rows[-1]}", highlight=False)
    settle(run, distances, scores, {OWN: own, FAST: fast})
    extra = {"precision": precision(), "nouns": NOUNS[: size.nouns], "starts": rows}
    return Findings(TokenDistillation.paper, run.claims, extra, {"Starts (distance: mean squared, of last hidden states)": rows}, {})


def settle(
    run: Ledger, distances: Mapping[str, list[Sample]], scores: Mapping[str, list[Score]], tried: Mapping[str, TokenDistillation]
) -> None:
    """Both claims for each way of distilling."""
    for name, start in tried.items():
        note = f"lr {start.lr:g}, {start.snippets} written passages a noun, one epoch."
        for declared, found in ((CLOSER, distances), (LOWER, {key: [Sample.of_scores(value)] for key, value in scores.items()})):
            named = declared if name == OWN else replace(declared, claim=f"at a learning rate of {start.lr:g}, {declared.claim}")
            run.settle(named, WRITTEN, stacked(found[START]), stacked(found[name]), note)
