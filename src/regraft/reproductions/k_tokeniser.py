"""K-Tokeniser, tested again: pieces of concept names, and whether they make up for missing labels.

The paper's notes (MIMIC-III, n2c2) and its encoders cannot be had here. Open stand-ins: codes of ICD-10-CM from their descriptions for
automated coding, entities in PubMed abstracts (NCBI-disease, BC5CDR) for concept extraction, an encoder without clinical pre-training
(all-MiniLM-L6-v2), and drug names, HPO and ICD-10-CM for UMLS. No category of a test description is in the training side or in an ontology.
What is expected was declared below before any run: directions from the paper, sizes from what its abstract reports. How long models are
trained was set by the time it takes, after looks at base alone on test texts of the codes and of NCBI-disease.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from regraft.checkpoint import Checkpoint
from regraft.comparison import Kept
from regraft.corpus import Corpus
from regraft.datasets.models import ENCODER, encoder_folder
from regraft.evaluation.paired import Sample
from regraft.language.precision import matmul_precision
from regraft.method import resolve
from regraft.progress import console, step
from regraft.report.figures import learning_curves
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.reproductions.harness.vocab.clinical import english, entities, notes, ontologies, ontology_words
from regraft.tasks.fine_tuning import FineTuning
from regraft.tasks.kinds import TASKS
from regraft.tasks.labelled.examples import LabelledData
from regraft.tasks.labelled.named import open_named
from regraft.tasks.runs import Run, f1_sample
from regraft.tasks.task import Task, load_headed
from regraft.tokenizer import Tokenizer
from regraft.vocab.k_tokeniser import KTokeniser
from regraft.vocab.tasks.arms import ADDED_WORDS, BASE, DEFAULT_ROWS, K_TOKENISER, RANDOM_ROWS, Arm, Subject
from regraft.vocab.tasks.learning_curve import RUNS, Curves, Plan, Point
from regraft.vocab.transplant.installed import install

Row = dict[str, Any]

RUNS_VARIABLE = "REGRAFT_RUNS"  # a folder: finished fine-tunings are kept there, and the same call goes on from them
F1: dict[str, Any] = {"metric": "micro-F1", "unit": "F1"}
FERTILITY: dict[str, Any] = {"metric": "tokens per word", "unit": "token/word", "kind": "ratio"}

GAINS = {
    0.05: Declared("5 % of the labels: at least 1 point above the base tokenizer", BASE, Expectation(low=0.01), **F1),
    0.1: Declared("10 % of the labels: at least 1 point above the base tokenizer", BASE, Expectation(low=0.01), **F1),
    0.2: Declared("20 % of the labels: at least 1 point above the base tokenizer", BASE, Expectation(low=0.01), **F1),
    0.5: Declared("50 % of the labels: not below the base tokenizer", BASE, Expectation(low=0.0), **F1),
    1.0: Declared("all labels: within 2 points of the base tokenizer", BASE, Expectation(-0.02, 0.02), **F1),
}
GROWS = Declared("the gain grows as labels shrink", "gain with all labels", Expectation(low=0.0), "gain over base in micro-F1", "F1")
CATCHES_UP = Declared(
    "half of the labels are as good as all of them with the base tokenizer", "base with all labels", Expectation(low=0.0), **F1
)
OVER_RANDOM = Declared("fewest labels: the mean of old pieces beats random rows", RANDOM_ROWS, Expectation(low=0.005), **F1)
OVER_DEFAULT = Declared("fewest labels: the mean of old pieces beats the default rows", DEFAULT_ROWS, Expectation(low=0.005), **F1)
OVER_WORDS = Declared("fewest labels: it beats whole added words with default rows", ADDED_WORDS, Expectation(low=0.005), **F1)
UNTRAINED = Declared("before training: the mean of old pieces beats random rows", RANDOM_ROWS, Expectation(low=0.01), **F1)
NAMES = {
    title: Declared(f"held-out {title} take 10 to 30 % fewer tokens", BASE, Expectation(-0.3, -0.1), **FERTILITY)
    for title in ("names of drugs", "names of phenotypes", "names of diseases")
}
ENGLISH = Declared("ordinary English keeps its tokens within 2 %", BASE, Expectation(-0.02, 0.02), **FERTILITY)
SPAN_F1: dict[str, Any] = {"metric": "span F1", "unit": "F1"}
ENTITY_CORPORA = {"ncbi-disease": "NCBI-disease", "bc5cdr": "BC5CDR"}
SHOWN = (BASE, ADDED_WORDS, DEFAULT_ROWS, RANDOM_ROWS, K_TOKENISER)
NOT_COVERED = "ICD-10-CM descriptions stand for clinical notes, all-MiniLM-L6-v2 for clinical encoders."


def entity_claims(corpus: str) -> dict[str, Declared]:
    """What the abstract says of concept extraction, for one corpus of entities."""
    title = ENTITY_CORPORA[corpus]
    gain: dict[str, Any] = {"metric": "gain over base in span F1", "unit": "F1"}
    return {
        "few": Declared(
            f"{title}: with the fewest labels at least 1 point above the base tokenizer", BASE, Expectation(low=0.01), **SPAN_F1
        ),
        "many": Declared(f"{title}: with all labels within 2 points of the base tokenizer", BASE, Expectation(-0.02, 0.02), **SPAN_F1),
        "grows": Declared(f"{title}: the gain grows as labels shrink", "gain with all labels", Expectation(low=0.0), **gain),
        "half": Declared(
            f"{title}: half of the labels are as good as all of them with the base tokenizer",
            "base with all labels",
            Expectation(low=0.0),
            **SPAN_F1,
        ),
    }


@dataclass(frozen=True)
class Size:
    """How much of everything: on two processor cores half an hour, most of it the many fine-tunings, which are short for that.

    `phrases` are taken of each ontology, sentences of at most `entity_words` words to train on; None takes all. Learning rates are chosen
    at `rate_shares`, baselines other than base run at `side_shares`, other settings at `tried_shares`.
    """

    shares: tuple[float, ...] = tuple(GAINS)
    side_shares: tuple[float, ...] = (0.05,)
    rate_shares: tuple[float, ...] = (0.2,)
    tried_shares: tuple[float, ...] = ()
    seeds: int = 3
    steps: int = 100
    batch: int = 8
    train: int = 3500
    validation: int = 500
    test: int = 1000
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    centroid: int = 2000
    phrases: int | None = None
    sentences: int = 1000
    corpora: tuple[str, ...] = tuple(ENTITY_CORPORA)
    entity_shares: tuple[float, ...] = (0.05, 0.5, 1.0)
    entity_steps: int = 100
    entity_batch: int = 8
    entity_words: int | None = 25
    entity_train: int | None = None
    entity_test: int = 500


ON_A_GPU = Size(
    rate_shares=(0.05, 1.0),
    tried_shares=(0.1,),
    steps=400,
    batch=16,
    rates=(3e-5, 1e-4, 3e-4),
    entity_shares=(0.05, 0.2, 0.5, 1.0),
    entity_steps=600,
    entity_batch=16,
    entity_words=None,
    entity_test=1000,
)
QUICK = Size(
    (0.1, 1.0),
    (0.1,),
    seeds=1,
    steps=12,
    train=600,
    test=300,
    rates=(3e-4,),
    centroid=300,
    phrases=2000,
    sentences=200,
    corpora=("ncbi-disease",),
    entity_shares=(0.1, 1.0),
    entity_steps=40,
    entity_train=600,
)
TRIED: dict[str, dict[str, Any]] = {
    "phi 0.065": {"phi": 0.065},
    "all candidate pieces": {"pieces": 1_000_000},
    "a quarter of the pieces": {"pieces": 0.25},
    "delta_k 5": {"delta_k": 5},
    "h0_count 100": {"h0_count": 100},
    "h0_count 10,000": {"h0_count": 10_000},
}


@dataclass
class Study:
    """What the parts of the run share, and what they add to the record and to the report beside their claims."""

    subject: Subject
    arms: Mapping[str, Arm]
    texts: Mapping[str, Sequence[str]]
    kept: Kept
    size: Size
    device: str
    extra: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def curves(
        self, data: LabelledData, arms: Sequence[Arm], shares: tuple[float, ...], tuning: FineTuning, seeds: int | None = None
    ) -> Curves:
        """Fine-tunings of `arms` on shares of `data`, not run yet."""
        plan = Plan(shares=shares, seeds=seeds or self.size.seeds, tuning=tuning)
        return Curves(self.subject, data, TASKS[data.kind].of(data), list(arms), plan, self.device)


def reproduce(quick: bool, device: str = "cpu") -> Findings:
    """Run all of it: half an hour on two cores, 2 processor minutes with `quick`. A GPU trains longer and tries other settings."""
    size = QUICK if quick else Size() if device == "cpu" else ON_A_GPU
    with step("reading the encoder, the ontologies and the codes"):
        whole = open_named("icd-10-chapters")
        data = shortened(whole, size)
        checkpoint = Checkpoint.open(encoder_folder(), vocabulary=True)
        learned, held_out = ontologies(size.phrases)
        corpus = Corpus.from_texts([example.text for example in data.train], held_out=0.0, name=data.name)
        subject = Subject(checkpoint, Tokenizer.from_directory(checkpoint.path), learned, corpus=corpus)
    kept = Kept(Path(os.environ[RUNS_VARIABLE]) if os.environ.get(RUNS_VARIABLE) else None, RUNS)
    taken_over = len(kept.lines)
    run = Ledger(f"{ENCODER}; {len(data.train):,} ICD-10-CM descriptions, 22 chapters, test categories apart; {ontology_words(learned)}")
    with step("building the vocabularies"):
        arms = {name: subject.arm(name) for name in (BASE, ADDED_WORDS, RANDOM_ROWS, K_TOKENISER)}
    texts = {**held_out, "ordinary English": english(size.sentences), "clinical notes": notes(size.sentences)}
    study = Study(subject, arms, texts, kept, size, device)
    study.extra["fertility"] = study.tables["Tokens per word"] = settle_fertility(run, subject, arms, texts)
    with matmul_precision("auto", device):
        coding(run, study, whole, data)
        extract(Ledger(f"{ENCODER}; {ontology_words(learned)}", run.claims), study)
    seconds = sum(line["seconds"] for line in kept.lines.values())
    study.extra["fine_tunings"] = {"runs": len(kept.lines), "runs_taken_over": taken_over, "seconds": seconds}
    return Findings(resolve("initializer", K_TOKENISER).paper, run.claims, study.extra, study.tables, study.figures)


def coding(run: Ledger, study: Study, whole: LabelledData, data: LabelledData) -> None:
    """Chapters of ICD-10-CM descriptions: before training, at every share of the labels, and with other settings."""
    subject, arms, kept, size = study.subject, study.arms, study.kept, study.size
    with step("before training: nearest centroid"):
        some = replace(data, train=data.train[: size.centroid])
        untrained = {name: untrained_run(subject, arm, some, size.seeds) for name, arm in arms.items()}
    run.settle(UNTRAINED, "nearest class mean", f1_sample(untrained[RANDOM_ROWS]), f1_sample(untrained[K_TOKENISER]), NOT_COVERED)
    with step("choosing the learning rate: base tokenizer, descriptions kept apart from training"):
        apart = whole.train[size.train : size.train + size.validation]
        validation = replace(whole, name=f"{whole.name}, validation", train=whole.train[: size.train], test=apart)
        tuning, rates = choose_rate(study, validation, FineTuning(steps=size.steps, batch_size=size.batch))
    with step("fine-tuning on shares of the labels"):
        curves = study.curves(data, [arms[BASE], arms[K_TOKENISER]], size.shares, tuning)
        points = curves.run(kept)
        sides = [arms[ADDED_WORDS], arms[RANDOM_ROWS], subject.arm(DEFAULT_ROWS)]
        others = study.curves(data, sides, size.side_shares, tuning)
        others.run(kept)
        others.runs += [one for one in curves.runs if one.arm == BASE]
        points += others.points()
    settle_curves(run, curves, others, size)
    tried = [row for share in size.tried_shares for row in try_others(study, data, curves, share)]
    before = [{"method": name, "f1": f1_sample(runs).value} for name, runs in untrained.items()]
    study.extra |= {"training": vars(tuning), "rates": rates, "curves": [p.row() for p in points], "untrained": before, "tried": tried}
    study.tables |= {
        "Micro-F1 by share of the labels": by_share(points),
        "Micro-F1 of the base tokenizer by learning rate, descriptions kept apart": rates,
        "Before training (nearest class mean)": before,
    }
    if tried:
        study.tables["What else was tried"] = tried
    study.figures["Learning curves, codes"] = learning_curves(curved(points), reference=BASE, y_title="micro-F1")


def extract(run: Ledger, study: Study) -> None:
    """Concept extraction from the entity corpora, at shares of the labels; one learning rate, chosen on a development side."""
    size = study.size
    first = cut_short(entities(size.corpora[0], "devel.tsv"), size)
    with step("concept extraction: choosing the learning rate: base tokenizer, a development side"):
        tuning, rates = choose_rate(study, first, FineTuning(steps=size.entity_steps, batch_size=size.entity_batch))
    study.extra["extraction"] = {"training": vars(tuning), "rates": rates, "rates_on": first.name, "curves": {}}
    study.tables[f"Span F1 of the base tokenizer by learning rate, {first.name}"] = rates
    for corpus in size.corpora:
        with step(f"{ENTITY_CORPORA[corpus]}: fine-tuning on shares of the labels"):
            curves = entity_curves(study, corpus, tuning)
            points = curves.run(study.kept)
        settle_entities(run, curves, corpus)
        study.extra["extraction"]["curves"][corpus] = [point.row() for point in points]
        study.tables[f"{ENTITY_CORPORA[corpus]}: span F1 by share of the labels"] = by_share(points)
        figure = learning_curves(curved(points), reference=BASE, y_title="span F1")
        study.figures[f"Learning curves, {ENTITY_CORPORA[corpus]}"] = figure


def entity_curves(study: Study, corpus: str, tuning: FineTuning) -> Curves:
    data = cut_short(entities(corpus), study.size)
    return study.curves(data, [study.arms[BASE], study.arms[K_TOKENISER]], study.size.entity_shares, tuning)


def cut_short(data: LabelledData, size: Size) -> LabelledData:
    """The first sentences of both sides, to train on those that are not too long."""
    train = [one for one in data.train if size.entity_words is None or len(one.text.split()) <= size.entity_words]
    return replace(data, train=tuple(train[: size.entity_train]), test=data.test[: size.entity_test])


def settle_entities(run: Ledger, curves: Curves, corpus: str) -> None:
    """The claims about one corpus of entities."""
    declared, tuning, shares = entity_claims(corpus), curves.plan.tuning, curves.plan.shares
    few, half, many = shares[0], next(share for share in shares if share >= 0.5), shares[-1]
    base, mine = ({share: f1_sample(curves.of(arm, share)) for share in (few, half, many)} for arm in (BASE, K_TOKENISER))
    text = f"{ENTITY_CORPORA[corpus]}, {len(curves.data.train):,} labelled sentences, {len(curves.data.test):,} test sentences"
    how = f"{tuning.steps} steps of {tuning.batch_size} at every share, lr {tuning.lr:g}. Entities are scored by exact spans."
    run.settle(declared["few"], text, base[few], mine[few], how)
    run.settle(declared["many"], text, base[many], mine[many], how)
    run.settle(declared["grows"], text, mine[many] - base[many], mine[few] - base[few], how)
    run.settle(declared["half"], text, base[many], mine[half], how)


def by_share(points: Sequence[Point]) -> list[Row]:
    names = [name for name in SHOWN if any(p.arm == name for p in points)]
    return [{"method": name, **{f"{100 * p.share:g} %": p.f1 for p in points if p.arm == name}} for name in names]


def curved(points: Sequence[Point]) -> dict[str, list[tuple[float, float, float, float]]]:
    names = [name for name in SHOWN if any(p.arm == name for p in points)]
    return {name: [(float(p.examples), p.f1, *p.interval) for p in points if p.arm == name] for name in names}


def choose_rate(study: Study, data: LabelledData, tuning: FineTuning) -> tuple[FineTuning, list[Row]]:
    """The learning rate for every arm: best for the base tokenizer on a test side of `data` that no claim is measured on."""
    rows: list[Row] = []
    for rate in study.size.rates:
        points = study.curves(data, [study.arms[BASE]], study.size.rate_shares, replace(tuning, lr=rate), seeds=1).run(study.kept)
        rows.append({"lr": rate, "F1": sum(p.f1 for p in points) / len(points)})
    return replace(tuning, lr=max(rows, key=lambda row: float(row["F1"]))["lr"]), rows


def settle_curves(run: Ledger, curves: Curves, others: Curves, size: Size) -> None:
    """Every claim about fine-tuned models."""
    tuning = curves.plan.tuning
    how = f"{tuning.steps} steps of {tuning.batch_size} at every share, lr {tuning.lr:g}. {NOT_COVERED}"
    score = {(arm.name, share): f1_sample(curves.of(arm.name, share)) for arm in curves.arms for share in size.shares}
    few, many = size.shares[0], size.shares[-1]
    for share in size.shares:
        run.settle(GAINS[share], "test descriptions", score[BASE, share], score[K_TOKENISER, share], how)
    gains = {share: score[K_TOKENISER, share] - score[BASE, share] for share in (few, many)}
    run.settle(GROWS, f"{100 * few:g} % against all labels", gains[many], gains[few], how)
    half = next((share for share in size.shares if share >= 0.5), many)
    run.settle(CATCHES_UP, f"{100 * half:g} % against all labels", score[BASE, many], score[K_TOKENISER, half], how)
    mine = score[K_TOKENISER, few]
    for declared in (OVER_RANDOM, OVER_DEFAULT, OVER_WORDS):
        run.settle(declared, f"{100 * few:g} % of the labels", f1_sample(others.of(declared.baseline, few)), mine, how)


def settle_fertility(run: Ledger, subject: Subject, arms: Mapping[str, Arm], texts: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Tokens per word of each text under every vocabulary; names and English are claims, the rest is shown."""
    found: dict[tuple[str, str], Sample] = {}
    rows = []
    for title, some in texts.items():
        for name in (BASE, ADDED_WORDS, K_TOKENISER):
            found[title, name] = tokens_per_word(arms[name].encoder, some)
        coverage = k_tokeniser(subject).coverage(some)
        shares = {kind: tally["share"] for kind, tally in coverage.to_dict()["types"].items()}
        rows.append({"text": title, **{name: found[title, name].value for name in (BASE, ADDED_WORDS, K_TOKENISER)}, **shares})
        declared = ENGLISH if title == "ordinary English" else NAMES.get(title)
        if declared is not None:
            run.settle(declared, f"{len(some):,} {title}", found[title, BASE], found[title, K_TOKENISER])
    return rows


def tokens_per_word(encoder: Any, texts: Sequence[str]) -> Sample:
    """Tokens and words (between white space) of each text."""
    ids = encoder(list(texts), add_special_tokens=False)["input_ids"]
    return Sample.of([len(row) for row in ids], [len(text.split()) for text in texts])


def k_tokeniser(subject: Subject) -> KTokeniser:
    companion = subject.pieces.companion
    assert isinstance(companion, KTokeniser)
    return companion


def untrained_run(subject: Subject, arm: Arm, data: LabelledData, seeds: int) -> list[Run]:
    """Each test text to the chapter whose mean training text is nearest, by the untrained encoder; rows that are drawn, once a seed."""
    task = TASKS[data.kind].of(data)
    examples = [*data.train, *data.test]
    features = task.encode(arm.encoder, examples)
    border, found = len(data.train), []
    numbers = torch.tensor([task.ids[example.labels[0]] for example in data.train])
    for seed in range(seeds if arm.name == RANDOM_ROWS else 1):
        model = load_headed(AutoModel, subject.checkpoint).eval()
        tables = subject.tables(arm, seed)
        if tables is not None:
            install(model, tables)
        states = sentence_vectors(task, model, features)
        means = torch.zeros(len(task.labels), states.shape[1]).index_add(0, numbers, states[:border])
        nearest = (states[border:] @ torch.nn.functional.normalize(means, dim=1).T).argmax(1).tolist()
        counts = task.count([task.labels[i] for i in nearest], data.test)
        found.append(Run(arm.name, 1.0, seed, counts, 0.0))
    return found


def sentence_vectors(task: Task, model: Any, features: Sequence[Any]) -> torch.Tensor:
    """Unit means of the last hidden states, shape (texts, d)."""
    order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
    vectors = torch.zeros(len(features), model.config.hidden_size)
    with torch.inference_mode():
        for first in range(0, len(order), 64):
            places = order[first : first + 64]
            batch = task.collate([features[i] for i in places])
            states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            real = batch["attention_mask"].unsqueeze(-1)
            vectors[places] = torch.nn.functional.normalize((states * real).sum(1), dim=1)
    return vectors


def try_others(study: Study, data: LabelledData, curves: Curves, share: float) -> list[Row]:
    """Other roll-backs, thresholds, piece inventories and learning rates at one share: the gain over base with each."""
    subject, tuning = study.subject, curves.plan.tuning
    base, default = study.arms[BASE], study.arms[K_TOKENISER]
    names = [text for title in NAMES for text in study.texts[title]]

    def gain(title: str, arm: Arm, own: Curves, reference: Curves) -> Row:
        mine, before = (
            {
                "names": tokens_per_word(one.encoder, names).value,
                "ordinary English": tokens_per_word(one.encoder, study.texts["ordinary English"]).value,
            }
            for one in (arm, base)
        )
        row = {"settings": title, "share": share, "new tokens": arm.new_tokens}
        row["F1 over base"] = f1_sample(own.of(K_TOKENISER, share)).value - f1_sample(reference.of(BASE, share)).value
        row |= {text: mine[text] / before[text] - 1 for text in mine}
        console.print(f"  {row}", highlight=False)
        return row

    def ran(arms: Sequence[Arm], tuning: FineTuning) -> Curves:
        own = study.curves(data, arms, (share,), tuning)
        own.run(study.kept)
        return own

    rows = [gain("defaults", default, curves, curves)]
    for title, changed in TRIED.items():
        if set(changed) == {"phi"}:
            arm = replace(default, encoder=KTokeniser(k_tokeniser(subject).knowledge, **changed))
        else:
            arm = replace(subject, method=resolve("initializer", K_TOKENISER, changed)).arm(K_TOKENISER)
        rows.append(gain(title, arm, ran([arm], tuning), curves))
    for rate in study.size.rates:
        if rate != tuning.lr:
            both = ran([base, default], replace(tuning, lr=rate))
            rows.append(gain(f"lr {rate:g}, base too", default, both, both))
    return rows


def shortened(data: LabelledData, size: Size) -> LabelledData:
    """The first of both sides, which are shuffled."""
    return replace(data, train=data.train[: size.train], test=data.test[: size.test])
