"""DefSent+, tested again at the size of a laptop: does a language model learn sentences from a dictionary, and do more entries help?

The paper trains BERT and RoBERTa of 110 to 340 million parameters on a dictionary of Oxford and WordNet. Here SmolLM2-135M-Instruct learns
from a few hundred entries of WordNet: its first 26 layers are frozen, their states computed once; the last 4 are trained, with the same
steps by DefSent (entries of one token) and by each of two rounds of DefSent+ (all entries). Similarity is measured on pairs of the STS
benchmark and of SICK that nothing was trained on. What is expected was declared below before any full run of this script: sizes on STS and
SICK are those of training on a whole dictionary, sizes on the reverse dictionary come from an earlier measurement on another draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from datasets import Dataset
from regraft.datasets.models import model_folder
from regraft.evaluation.correlation import Correlation
from regraft.evaluation.paired import Sample
from regraft.method import resolve
from regraft.progress import progress_bar, step
from regraft.report.figures import training_curves
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.text.fitting import Budget
from regraft.text.lexical.dictionary import Pair, dictionary, hold_out
from regraft.text.lexical.wordnet import find_wordnet, read_wordnet
from regraft.text.reading.layers import blocks_of
from regraft.text.tasks.named import Scored, sick, stsb
from regraft.text.tasks.reverse import ReverseDictionary
from regraft.text.tasks.task import encoder, unit
from regraft.text.tuners.defsent import DefSentPlus
from regraft.text.tuners.defsent.heads import transformer_of
from regraft.text.tuners.defsent.single import one_piece

LAST, BATCH, LR, WORDS, TEMPERATURE = 4, 16, 2e-4, 12, 0.05
Floats = npt.NDArray[np.float64]


def _declared(claim: str, baseline: str, low: float = -np.inf, high: float = np.inf, metric: str = "Spearman", note: str = "") -> Declared:
    unit_ = {"Spearman": "correlation", "MRR": "share", "cosine": "cosine"}[metric]
    return Declared(claim, baseline, Expectation(low=low, high=high), metric=metric, unit=unit_, note=note)


RAW = _declared("STS: one round is at least 0.05 above the model as it is", "not trained", 0.05)
RAW_SICK = _declared("SICK: one round is at least 0.05 above the model as it is", "not trained", 0.05)
DEFSENT = _declared("STS: DefSent is above the model as it is", "not trained", 0.0)
OVER = _declared("STS: one round is at least 0.01 above DefSent", "DefSent", 0.01)
ROUND = _declared("STS: the second round is not more than 0.01 below the first", "round 1", -0.01)
UNIFORM = _declared(
    "entry vectors of the second round lie less alike: mean cosine at least 0.1 lower", "round 1", high=-0.1, metric="cosine"
)
REVERSE = _declared("reverse dictionary: one round is at least 0.05 above the model as it is", "not trained", 0.05, metric="MRR")
REVERSE_OVER = _declared("reverse dictionary: one round is at least 0.05 above DefSent", "DefSent", 0.05, metric="MRR")
CONTROL = _declared(
    "negative control: definitions dealt to entries at random gain at least 0.03 less on STS", "shuffled", 0.03,
    note="What is left of the gain is that training makes vectors more uniform, whatever they say.",
)  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much of everything. `entries` : to learn, half of one token, half of several. `asked` : definitions looked up."""

    seeds: int = 3
    entries: int = 400
    steps: int = 50
    sts: int = 250
    sick: int = 150
    asked: int = 120


QUICK = Scale(seeds=1, entries=60, steps=6, sts=40, sick=30, asked=20)


def reproduce(quick: bool) -> Findings:
    """Run all of it: under ten processor minutes in full, under one with `quick`. Needs WordNet's files."""
    scale = QUICK if quick else Scale()
    tests = {"sts": drawn(stsb("test"), scale.sts), "sick": drawn(sick("test"), scale.sick)}
    model = resolve("encoder", "mean").build(model_folder(), max_tokens=32)
    learned, look_up = wordnet(scale, model.tokenizer)
    texts = [text for pairs in tests.values() for pair in pairs for text in pair[:2]]
    texts += [text for _, text in learned] + list(look_up.index.rows_of) + [text for text, _ in look_up.asked]
    with step(f"states of {len(set(texts)):,} texts after all but {LAST} layers"):
        cut_off(model, texts)
    start = {name: weight.clone() for name, weight in model.state_dict().items() if ".layers." in name or ".norm." in name}
    scores: dict[tuple[str, str], list[Floats]] = {}
    ranks: dict[str, list[Floats]] = {}
    tables: dict[str, list[Floats]] = {}
    curves = {}

    def measure(arm: str) -> None:
        for task, pairs in tests.items():
            scores.setdefault((arm, task), []).append(cosines(model, pairs))
        ranks.setdefault(arm, []).append(1 / look_up.ranks(encoder(model)))

    for seed in range(scale.seeds):
        model.load_state_dict(start, strict=False)
        measure("not trained")
        budget = Budget(steps=scale.steps, batch_size=BATCH, lr=LR, seed=seed)
        with step(f"seed {seed}: DefSent"):
            resolve("tuner", "defsent").train(model, examples(learned), budget)
        measure("DefSent")
        curves[f"DefSent, seed {seed}"] = budget.curve
        for arm, data in (("shuffled", dealt(learned, seed)), ("round 1", learned), ("round 2", learned)):
            if arm != "round 2":  # its entry vectors come from the model that round 1 has left
                model.load_state_dict(start, strict=False)
            tuner, budget = plus(), Budget(steps=scale.steps, batch_size=BATCH, lr=LR, seed=seed, warmup=0.0)
            rows = tuner.read(examples(data), model.tokenizer)
            vectors = tuner.vectors(model, rows)
            model.load_state_dict(start, strict=False)
            with step(f"seed {seed}: DefSent+, {arm}"):
                tuner.learn(model, rows, tuner.prepared(vectors, 1), budget, name=arm)
            measure(arm)
            tables.setdefault(arm, []).append(pairwise(vectors))
            curves[f"{arm}, seed {seed}"] = budget.curve

    def found(arm: str, task: str = "sts") -> Correlation:
        return Correlation(np.stack(scores[arm, task]), np.array([score for *_, score in tests[task]]))

    run = Ledger(
        f"{len(learned):,} pairs of WordNet, {scale.seeds} seeds, {scale.steps} steps of {BATCH}, last {LAST} layers of SmolLM2-135M"
    )
    text = f"STS test, {scale.sts} pairs"
    run.settle(RAW, text, found("not trained"), found("round 1"))
    run.settle(RAW_SICK, f"SICK test, {scale.sick} pairs", found("not trained", "sick"), found("round 1", "sick"))
    run.settle(DEFSENT, text, found("not trained"), found("DefSent"))
    run.settle(OVER, text, found("DefSent"), found("round 1"))
    run.settle(ROUND, text, found("round 1"), found("round 2"))
    run.settle(UNIFORM, "1,000 pairs of entries", share(tables["round 1"]), share(tables["round 2"]))
    asked = f"{len(look_up.asked)} definitions, {len(look_up.index):,} entries"
    run.settle(REVERSE, asked, share(ranks["not trained"]), share(ranks["round 1"]))
    run.settle(REVERSE_OVER, asked, share(ranks["DefSent"]), share(ranks["round 1"]))
    run.settle(CONTROL, text, found("shuffled"), found("round 1"))
    arms = ("not trained", "DefSent", "shuffled", "round 1", "round 2")
    table_: list[dict[str, Any]] = [
        {
            "arm": arm,
            "STS": round(found(arm).value, 4),
            "SICK": round(found(arm, "sick").value, 4),
            "MRR": round(share(ranks[arm]).value, 4),
        }
        for arm in arms
    ]
    figures = {} if quick else {"Loss": training_curves(curves, x_title="steps", y_title="loss")}
    return Findings(DefSentPlus.paper, run.claims, {"arms": table_}, {"What each arm reaches": table_}, figures)


def share(amounts: Sequence[Floats]) -> Sample:
    """A mean over documents, one row a seed."""
    return Sample(np.stack(amounts), np.ones_like(np.stack(amounts)))


def plus() -> DefSentPlus:
    """A round as it is run here: cosines with standardised vectors, for the model's own are long and lie close together."""
    way = {"isotropy": "standardize", "isotropy_from": 1, "temperature": TEMPERATURE, "head": "identity", "layers": LAST}
    tuner: DefSentPlus = resolve("tuner", "defsent-plus", way)
    return tuner


def wordnet(scale: Scale, tokenizer: Any) -> tuple[list[Pair], ReverseDictionary]:
    """Pairs to learn, half of the entries of one token; and a look-up among entries that are not learned."""
    pairs = [pair for pair in read_wordnet(find_wordnet()) if 3 <= len(pair[1].split()) <= WORDS]
    train, index, asked = hold_out(pairs, 0.2)
    draw = np.random.default_rng(0)
    kinds: tuple[list[Pair], list[Pair]] = ([], [])
    for at in draw.permutation(len(train)):
        pair = train[at]
        kind = kinds[one_piece(tokenizer, pair[0]) is None]
        if len(kind) < scale.entries // 2:
            kind.append(pair)
        if min(map(len, kinds)) == scale.entries // 2:
            break
    chosen = dict(asked[at] for at in draw.permutation(len(asked))[: scale.asked])
    rows = dictionary([pair for pair in index if pair[0] in chosen], merge=False)
    at_row = {names[0]: row for row, names in enumerate(rows.names)}
    look_up = ReverseDictionary("wordnet", "MRR", "", rows, tuple((text, at_row[name]) for name, text in chosen.items()))
    return kinds[0] + kinds[1], look_up


def dealt(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The same entries and definitions, one with the other at random, two definitions an entry: what they say is lost."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    return [(pairs[at // 2][0], pairs[text][1]) for at, text in enumerate(order)]


def examples(pairs: Sequence[Pair]) -> Dataset:
    return Dataset.from_list([{"entry": name, "definition": text} for name, text in pairs])


def drawn(pairs: Sequence[Scored], count: int) -> list[Scored]:
    """`count` pairs of short texts."""
    short = [pair for pair in pairs if all(len(text.split()) <= WORDS for text in pair[:2])]
    return [short[at] for at in np.random.default_rng(0).permutation(len(short))[:count]]


@torch.no_grad()
def cut_off(model: SentenceTransformer, texts: Sequence[str]) -> None:
    """Leave only the last layers of `model`, which then reads states of these texts that were computed once, by places of tokens."""
    body: Any = transformer_of(model)
    backbone = body.model
    texts = sorted(set(texts), key=len)
    blocks, real, first = blocks_of(backbone), body.preprocess, 0
    rows: list[torch.Tensor] = []
    places: dict[str, torch.Tensor] = {}
    with progress_bar("states", total=len(texts), unit="texts") as bar:
        for at in range(0, len(texts), 32):
            features: dict[str, torch.Tensor] = real(texts[at : at + 32])
            mask = features["attention_mask"].bool()
            given = {name: features[name] for name in ("input_ids", "attention_mask")}
            states = backbone(**given, output_hidden_states=True).hidden_states[len(blocks) - LAST]
            rows.append(states[mask].clone())
            for text, length in zip(texts[at : at + 32], mask.sum(1).tolist(), strict=True):
                places[text] = torch.arange(first, first + length)
                first += length
            bar.update(min(at + 32, len(texts)))

    def preprocess(inputs: Sequence[str], **kwargs: Any) -> dict[str, Any]:
        found = real(inputs, **kwargs)
        for row, text in enumerate(inputs):
            found["input_ids"][row, : len(places[text])] = places[text]
        return {**found}

    table = torch.cat(rows)
    backbone.set_input_embeddings(nn.Embedding(len(table), table.shape[1], _weight=table))
    backbone.layers = nn.ModuleList(list(blocks)[-LAST:])
    for number, block in enumerate(backbone.layers):
        block.self_attn.layer_idx = number
    backbone.config.num_hidden_layers = LAST
    body.preprocess = preprocess


def cosines(model: SentenceTransformer, pairs: Sequence[Scored]) -> Floats:
    """Cosine of each pair (pairs,)."""
    left, right = (unit(encoder(model)(side, "text")) for side in ([a for a, *_ in pairs], [b for _, b, _ in pairs]))
    return np.asarray((left * right).sum(1))


def pairwise(table: Floats, count: int = 1000) -> Floats:
    """Cosines of random pairs of entries (count,), the same pairs of every table of that size."""
    draw = np.random.default_rng(0)
    a, b = draw.integers(len(table), size=count), draw.integers(len(table) - 1, size=count)
    rows = unit(table.astype(np.float32))
    return np.asarray((rows[a] * rows[b + (b >= a)]).sum(1))
