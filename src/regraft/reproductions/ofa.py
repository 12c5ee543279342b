"""OFA, tested again: where rows of unseen pieces start, by word vectors, and what a table cut to few dimensions costs.

The paper extends RoBERTa and XLM-R to 401,000 pieces of 500 languages with vectors of 1,300 languages, then trains on. Here an English
sentence encoder exchanges its vocabulary for one of clinical text and Wikipedia, with GloVe as the vectors, and SmolLM2-135M gets
Vietnamese pieces, with vectors trained on 10,000 sentences of either language and aligned by a dictionary. What is expected was declared
below before any full run: directions from the paper, sizes as a small machine can tell them apart.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from regraft.datasets.glove import glove
from regraft.evaluation import Score
from regraft.graft.factors import dense, factorise, factorise_model
from regraft.language.precision import precision
from regraft.method import resolve
from regraft.progress import console, step
from regraft.report.figures import training_curves
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.reproductions.harness.vocab.arms import Arm, Trained, train_arm
from regraft.reproductions.harness.vocab.encoder import EncoderSetting, sentence_vectors, word_pairs, word_similarity
from regraft.reproductions.harness.vocab.setting import Setting, Subject, score
from regraft.reproductions.harness.vocab.starts import TRAINING
from regraft.reproductions.harness.vocab.vietnamese import vietnamese_setting
from regraft.reproductions.harness.vocab.word_vectors import bilingual_aids
from regraft.vocab.initializer import Aids, Initializer
from regraft.vocab.initializers.ofa import OFA

RANDOM, PIECES = "univariate", "constituent-mean"
COPY_RANDOM = "copied rows, others random (univariate)"
COSINE: dict[str, Any] = {"metric": "cosine of sentence vectors to the original's", "unit": "cosine"}
SPEARMAN: dict[str, Any] = {"metric": "Spearman correlation with WordSim-353", "unit": "rho"}
VI = "held-out Vietnamese"

ENCODER = {
    RANDOM: Declared(
        "exchanged vocabulary: OFA keeps sentence vectors nearer than random rows by 0.2", COPY_RANDOM, Expectation(low=0.2), **COSINE
    ),
    "k=1": Declared("exchanged vocabulary: ten neighbors are not worse than one", "OFA, k = 1", Expectation(low=0.0), **COSINE),
    PIECES: Declared("exchanged vocabulary: OFA is not worse than the mean of the old pieces", PIECES, Expectation(low=0.0), **COSINE),
}
WORDSIM = Declared(
    "exchanged vocabulary: word similarity is higher than with random rows by 0.1", COPY_RANDOM, Expectation(low=0.1), **SPEARMAN
)
CUT = Declared("a table of rank 200 of 384 loses less than 2 points of word similarity", "whole table", Expectation(low=-0.02), **SPEARMAN)
BEFORE = {
    RANDOM: Declared("step 0: OFA beats random rows by at least 0.5 bit", "univariate (N(mu, sigma))", Expectation(high=-0.5)),
    PIECES: Declared("step 0: OFA is not worse than the mean of the old pieces", PIECES, Expectation(high=0.0)),
}
MORE_DIMENSIONS = Declared("step 0: 400 dimensions beat 100", "OFA, D' = 100", Expectation(high=-0.1))
AFTER = {
    RANDOM: Declared("after the same training OFA is still ahead of random rows by 0.02 bit", "univariate", Expectation(high=-0.02)),
    "cut": Declared(
        "after the same training the tables of rank 400 are within 0.1 bit of whole ones", "OFA, D' = 576", Expectation(high=0.1)
    ),
    "split": Declared("after the same training balanced factors are ahead of the paper's", "OFA, D' = 400, paper", Expectation(high=0.0)),
}
NOT_COVERED = "Hundreds of languages, retrieval and tagging tasks and weeks of training are not part of this run."
VECTORS = "Word vectors of 10,000 sentences a language are what OFA can know here; ColexNet+ has 4 million words."


def ofa(**settings: Any) -> OFA:
    """OFA whose old tokens are looked up in English words alone, as in the paper's monolingual setting."""
    return OFA(source_languages="source", **settings)


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    pieces: int = 8000
    texts: int = 200
    words: int = 100_000
    ranks: tuple[int, ...] = (50, 100, 200, 384)
    new_pieces: int = 1000
    sentences: int = 10_000
    vietnamese: int = 40
    english: int = 8
    seeds: int = 3
    steps: int = 20
    points: int = 0


QUICK = Size(
    pieces=3000, texts=24, words=10_000, ranks=(200,), new_pieces=200, sentences=1500, vietnamese=6, english=3, seeds=1, steps=2, points=0
)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 20 processor minutes in full, 2 with `quick`."""
    size = QUICK if quick else Size()
    with TemporaryDirectory() as folder:
        setting = EncoderSetting.prepare(size.pieces, size.texts, Aids(vectors=glove(Path(folder), size.words)))
        run = Ledger(str(setting))
        encoder = compare_encoders(run, setting, size)
        ranks = cut_encoder(run, setting, size)
        decoders = vietnamese_settings(Path(folder), size)
        run.data = str(decoders[0])
        with step("starts of Vietnamese pieces"):
            starts = compare_starts(run, decoders, size)
        with step("training"):
            arms = train_arms(run, decoders, size)
    trained = [arm for group in arms.values() for arm in group]
    extra = {
        "precision": precision(), "training": TRAINING, "encoder": encoder, "ranks": ranks, "starts": starts,
        "arms": [arm.to_dict() for arm in trained],
    }  # fmt: skip
    tables = {
        "Encoder with an exchanged vocabulary": encoder,
        "Encoder with its own vocabulary, table cut to a rank": ranks,
        "Starts of Vietnamese pieces (bits per byte)": starts,
        "Training (bits per byte)": [arm.row() for arm in trained],
    }
    lines = {arm.title: [(p["step"], p["vietnamese"]) for p in arm.curve] for arm in trained}
    return Findings(OFA.paper, run.claims, extra, tables, {"Held-out Vietnamese, bits per byte": training_curves(lines, x_title="steps")})


def compare_encoders(run: Ledger, setting: EncoderSetting, size: Size) -> list[dict[str, Any]]:
    """How near sentence vectors stay to the original's under each start, and word similarity."""
    pairs = {name: word_pairs(name) for name in ("wordsim353", "simlex999")}
    reference = sentence_vectors(*setting.untouched(), setting.held_out)
    starts: dict[str, Initializer] = {
        "ofa": OFA(),
        "k=1": OFA(k=1),
        PIECES: resolve("initializer", PIECES),
        RANDOM: resolve("initializer", RANDOM),
    }
    cosines: dict[str, Sample] = {}
    similar: dict[str, Sample] = {}
    rows = []
    with step("encoding with an exchanged vocabulary"):
        for name, start in starts.items():
            near, word = [], []
            for seed in range(size.seeds if name == RANDOM else 1):
                subject = setting.started(start, seed)
                near.append(Sample.of((sentence_vectors(*subject, setting.held_out) * reference).sum(1)))
                word.append({list_: word_similarity(*subject, pair) for list_, pair in pairs.items()})
            cosines[name] = together(near)
            similar[name] = together([w["wordsim353"] for w in word])
            lists = {list_: float(np.mean([w[list_].value for w in word])) for list_ in pairs}
            rows.append({"start": name, "cosine to the original": cosines[name].value, **lists})
            console.print(f"  {rows[-1]}", highlight=False)
    texts = f"{len(setting.held_out)} held-out definitions; GloVe 6B, {size.words:,} words"
    for name, declared in ENCODER.items():
        run.settle(declared, texts, cosines[name], cosines["ofa"])
    run.settle(WORDSIM, f"WordSim-353; GloVe 6B, {size.words:,} words", similar[RANDOM], similar["ofa"])
    return rows


def together(samples: list[Sample]) -> Sample:
    """One sample of several seeds."""
    return Sample(np.concatenate([s.amounts for s in samples]), np.concatenate([s.sizes for s in samples]))


def cut_encoder(run: Ledger, setting: EncoderSetting, size: Size) -> list[dict[str, Any]]:
    """The original encoder with its table cut to each rank: error against the tail of singular values, size, word similarity."""
    pairs, rows = word_pairs("wordsim353"), []
    model, tokenizer = setting.untouched()
    table = model.get_input_embeddings().weight.detach().clone()
    reference = sentence_vectors(model, tokenizer, setting.held_out)
    whole = word_similarity(model, tokenizer, pairs)
    for rank in size.ranks:
        factors = factorise(table, rank)
        error = float((table.double() - dense(factors.coordinates, factors.primitives).double()).square().sum().sqrt())
        model, tokenizer = setting.untouched()
        factorise_model(model, rank)
        found = word_similarity(model, tokenizer, pairs)
        near = (sentence_vectors(model, tokenizer, setting.held_out) * reference).sum(1).mean()
        rows.append(
            {
                "rank": rank,
                "reconstruction error": error,
                "tail of singular values": float(factors.singular_values[rank:].square().sum().sqrt()),
                "parameters of the table": rank * sum(table.shape) if rank < table.shape[1] else table.numel(),
                "wordsim353": found.value,
                "cosine to the original": float(near),
            }
        )
        console.print(f"  {rows[-1]}", highlight=False)
        if rank == 200:
            run.settle(CUT, "the untouched encoder; WordSim-353", whole, found)
    return rows


def vietnamese_settings(folder: Path, size: Size) -> list[Setting]:
    """SmolLM2 with Vietnamese pieces, once a seed: the word vectors differ."""
    setting = vietnamese_setting(size.new_pieces, sentences=size.sentences, vietnamese=size.vietnamese, english=size.english)
    english = setting.english[: size.sentences]
    return [dataclasses.replace(setting, aids=bilingual_aids(folder, english, setting.target, seed)) for seed in range(size.seeds)]


def compare_starts(run: Ledger, settings: list[Setting], size: Size) -> list[dict[str, Any]]:
    """Vietnamese and English before any training."""
    untouched = settings[0].untouched()
    rows = [
        {
            "start": "untouched",
            **bits([score(untouched, settings[0].target_held_out)], [score(untouched, settings[0].english_held_out)]),
        }
    ]
    del untouched
    starts: dict[str, Initializer] = {"ofa": ofa(), RANDOM: resolve("initializer", RANDOM), PIECES: resolve("initializer", PIECES)}
    starts["wechsel"] = resolve("initializer", "wechsel")
    starts |= {f"rank {rank}": ofa(rank=rank) for rank in (400, 100)}
    subject: Subject | None = None
    found: dict[str, list[Score]] = {}
    for name, start in starts.items():
        english = []
        for seed, setting in enumerate(settings[:1] if name == PIECES else settings):
            subject = setting.started(start, seed, subject)
            found.setdefault(name, []).append(score(subject, setting.target_held_out))
            english.append(score(subject, setting.english_held_out))
        rows.append({"start": name, **bits(found[name], english)})
        console.print(f"  {rows[-1]}", highlight=False)
    for name, declared in BEFORE.items():
        run.settle(declared, VI, Sample.of_scores(found[name]), Sample.of_scores(found["ofa"]), VECTORS)
    run.settle(MORE_DIMENSIONS, VI, Sample.of_scores(found["rank 100"]), Sample.of_scores(found["rank 400"]), VECTORS)
    return rows


def bits(vietnamese: list[Score], english: list[Score]) -> dict[str, float]:
    return {side: float(np.mean([s.bits_per_byte for s in scores])) for side, scores in (("vi", vietnamese), ("en", english))}


def train_arms(run: Ledger, settings: list[Setting], size: Size) -> dict[str, list[Trained]]:
    """OFA and random rows over whole tables, and OFA over factorised ones of either split; a run a seed."""
    starts: dict[str, Initializer] = {"ofa": ofa(), RANDOM: resolve("initializer", RANDOM)}
    starts |= {split: ofa(rank=400, split=split) for split in ("paper", "balanced")}
    arms: dict[str, list[Trained]] = {name: [] for name in starts}
    for seed, setting in enumerate(settings):  # seed by seed, so that a slow spell of the machine meets every start
        for name, start in starts.items():
            title = f"ofa, rank 400, {name}" if name in ("paper", "balanced") else name
            arms[name].append(train_arm(setting, Arm(title, start, TRAINING, seed), steps=size.steps, points=size.points))
    last = {name: Sample.of_scores([t.target for t in trained]) for name, trained in arms.items()}
    how = f"{size.steps} steps, {arms['ofa'][0].tokens:,} tokens, tables and the outer two layers at either end, lr 1e-3. {NOT_COVERED}"
    run.settle(AFTER[RANDOM], VI, last[RANDOM], last["ofa"], how)
    run.settle(AFTER["cut"], VI, last["ofa"], last["balanced"], f"Balanced factors. {how}")
    run.settle(AFTER["split"], VI, last["paper"], last["balanced"], how)
    return arms
