"""NV-Embed, tested again on one core: its pooling over a frozen decoder, its policy on negatives, its mining.

The paper trains Mistral-7B with LoRA on millions of pairs. Here SmolLM2-135M stays frozen, as a causal model, for without training of its
own the removal of the mask only disturbs it; its states are cached and heads are trained over them. Mining uses all-MiniLM-L6-v2 as
teacher. The comparison of bidirectional with causal LoRA is left out: it needs an hour of a core. What is expected was declared below
before any full run.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from sklearn.cluster import KMeans
from sklearn.metrics import v_measure_score
from sklearn.neighbors import KNeighborsClassifier

from datasets import Dataset
from regraft.datasets.models import encoder_folder, model_folder
from regraft.evaluation.correlation import Correlation
from regraft.method import resolve
from regraft.progress import console
from regraft.report.figures import bars
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.text.fitting import Budget, fit
from regraft.text.mine import Judged, Mined, estimate, mine
from regraft.text.modules.cached_states import CachedStates, cache_states
from regraft.text.modules.latent_attention import LatentAttention
from regraft.text.modules.masked_pooling import MaskedPooling
from regraft.text.tasks.named import open_task, sick, similarity, stsb
from regraft.text.tasks.similarity import Similarity
from regraft.text.tasks.task import Role, encoder, unit
from regraft.text.tuners.nv_embed import NVEmbed
from regraft.text.tuners.nv_embed.blend import Row, dataset, from_labels, from_scores
from regraft.text.tuners.nv_embed.loss import PolicyContrastive

Floats = npt.NDArray[np.float64]
Pooling = Literal["latent", "self-attention", "mean", "eos"]
POOLINGS: tuple[Pooling, ...] = ("latent", "self-attention", "mean", "eos")
MARGINS: tuple[float | None, ...] = (None, 1.05, 0.95, 0.8)
TEMPERATURE, LR, NEAREST = 0.05, 5e-4, 5

RHO: dict[str, Any] = {"metric": "Spearman", "unit": "correlation"}
LATENT_STS = Declared(
    "trained latent attention beats the trained mean by at least 0.005 on STS-B", "mean with a linear map, trained",
    Expectation(low=0.005), **RHO,
)  # fmt: skip
LATENT_SICK = Declared(
    "trained latent attention beats the trained mean by at least 0.005 on SICK", "mean with a linear map, trained",
    Expectation(low=0.005), **RHO,
)  # fmt: skip
OVER_EOS = Declared(
    "the trained mean beats the untrained last token by at least 0.1 on STS-B", "EOS, untrained", Expectation(low=0.1), **RHO
)
SHAPE = Declared(
    "negative control: an untrained latent head gains at most 0.005 over the plain mean on STS-B", "mean, untrained",
    Expectation(high=0.005), **RHO, note="Otherwise the shape alone, not its training, would explain a gain.",
)  # fmt: skip
OWN = Declared(
    "few classes: own negatives only beat in-batch negatives by at least 0.02", "in-batch negatives", Expectation(low=0.02),
    metric=f"accuracy of {NEAREST} nearest neighbours", unit="accuracy",
)  # fmt: skip
PAIRS = Declared(
    "negative control: on sentence pairs, where others are no answers, in-batch negatives lose at most 0.01 on STS-B",
    "own negatives only", Expectation(low=-0.01), **RHO,
)  # fmt: skip
EXAMPLES = Declared(
    "examples of a class as positives cluster at least as well as the class's name", "class names", Expectation(low=0.0),
    metric="V-measure of k-means", unit="V-measure",
)  # fmt: skip
SHARE: dict[str, Any] = {"metric": "share of mined documents that are answers", "unit": "share"}
FILTERED = Declared("mining: a margin of 1.05 mines no more answers than none", "no filter", Expectation(high=0.0), **SHARE)
TIGHTER = Declared("mining: 0.95 mines at least 0.01 fewer answers than 1.05", "margin 1.05", Expectation(high=-0.01), **SHARE)
TIGHTEST = Declared("mining: 0.8 mines at least 0.01 fewer answers than 0.95", "margin 0.95", Expectation(high=-0.01), **SHARE)


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    seeds: int = 3
    pairs: int = 300
    tested: int = 250
    questions: int = 300
    test_questions: int = 250
    steps: int = 60
    question_steps: int = 100
    queries: int = 225
    documents: int = 1400


QUICK = Size(seeds=1, pairs=30, tested=30, questions=40, test_questions=40, steps=5, question_steps=10, queries=30, documents=150)


@dataclass(frozen=True)
class Clusters:
    """V-measure of clusters with classes, averaged over seeds; texts are the documents. `found` : (seeds, texts). `classes` : (texts,)."""

    found: npt.NDArray[np.int64]
    classes: npt.NDArray[np.str_]

    @property
    def documents(self) -> int:
        return len(self.classes)

    @property
    def seeds(self) -> int:
        return len(self.found)

    @property
    def value(self) -> float:
        return self.resample(np.arange(self.documents), np.arange(self.seeds))

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        return float(np.mean([v_measure_score(self.classes[documents], self.found[seed, documents]) for seed in seeds]))


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 8 processor minutes in full, one with `quick`."""
    size = QUICK if quick else Size()
    frozen = Ledger(
        f"SmolLM2-135M, frozen and causal, states cached in float16; heads trained {size.steps} steps of 32, {size.seeds} seeds"
    )
    with tempfile.TemporaryDirectory() as folder:
        pooled = _poolings(frozen, size, Path(folder))
        sorted_out = _classes(frozen, size, Path(folder))
    found = Ledger("Cranfield, teacher all-MiniLM-L6-v2, 7 negatives a query, one answer known, the others hidden")
    mined = _mining(found, size)
    return Findings(
        NVEmbed.paper,
        frozen.claims + found.claims,
        {"poolings": pooled, "questions": sorted_out, "mining": mined},
        {"Poolings (Spearman)": pooled, "TREC-6": sorted_out, "Mining on Cranfield": mined},
        {
            "STS-B by pooling": bars({row["head"]: row["sts"] for row in pooled}, title="Spearman", ascending=False),
            "Answers among the mined": bars({row["margin"]: row["share"] for row in mined}, title="share of mined", ascending=True),
        },
    )


def head(pooling: Pooling, width: int, *, dense: bool = True, seed: int = 0) -> list[torch.nn.Module]:
    """What stands after the backbone. Small beside the paper's 512 latents of full width, for a few hundred rows and a CPU."""
    torch.manual_seed(seed)
    if pooling == "latent" or pooling == "self-attention":
        keys: Literal["latents", "tokens"] = "latents" if pooling == "latent" else "tokens"
        return [LatentAttention(width, keys=keys, latents=64, heads=8, dim_head=width // 8, ff_mult=1), Normalize()]
    linear = [Dense(width, width, activation_function=torch.nn.Identity())] if dense else []
    return [MaskedPooling(width, pooling), *linear, Normalize()]


def trained(
    states: CachedStates, modules: list[torch.nn.Module], rows: Sequence[Row], *, in_batch: bool, steps: int, seed: int
) -> SentenceTransformer:
    """`modules` over cached states after `steps` of NV-Embed's loss."""
    model = SentenceTransformer(modules=[states, *modules], device="cpu")
    budget = Budget(steps=steps, batch_size=32, lr=LR, seed=seed)
    fit(model, PolicyContrastive(model, TEMPERATURE), dataset(rows, [in_batch] * len(rows)), budget)
    return model


def _states(texts: Sequence[str], path: Path) -> CachedStates:
    """SmolLM2's states of `texts`, EOS after each."""
    model = resolve("encoder", "nv-embed", {"pooling": "mean", "bidirectional": False}).build(model_folder(), max_tokens=64)
    return CachedStates(cache_states(model[0], texts, path))


def _poolings(run: Ledger, size: Size, folder: Path) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    tasks = {name: _some(name, split, size.tested, draw) for name, split in (("sts", stsb("test")), ("sick", sick("test")))}
    scored = [one for name, split in (("sts", stsb("train")), ("sick", sick("train"))) for one in _some(name, split, size.pairs, draw)[1]]
    names = ("sentence1", "sentence2", "score")
    examples = Dataset.from_list([dict(zip(names, (a, b, score), strict=True)) for a, b, score in scored])
    rows = from_scores(examples, "", 1, positive=0.8, negative=0.5)
    texts = [text for row in rows for text in (row.query, row.positive, *row.negatives)]
    texts += [text for task, _ in tasks.values() for pair in task.pairs for text in pair]
    states = _states(texts, folder / "pairs.safetensors")
    width = states.get_embedding_dimension()

    def measure(models: Sequence[SentenceTransformer], name: str) -> Correlation:
        task = tasks[name][0]
        found = [task.measure(encoder(model, 128)) for model in models]
        return Correlation(np.concatenate([one.scores for one in found]), found[0].gold)

    def many(make: Callable[[int], SentenceTransformer]) -> list[SentenceTransformer]:
        return [make(seed) for seed in range(size.seeds)]

    models = {
        f"{pooling}, untrained": many(
            lambda seed, pooling=pooling: SentenceTransformer(  # type: ignore[misc]  # bound now
                modules=[states, *head(pooling, width, dense=False, seed=seed)], device="cpu"
            ).eval()
        )
        for pooling in POOLINGS
    }
    for pooling in POOLINGS:
        models[f"{pooling}, trained"] = many(
            lambda seed, pooling=pooling: trained(  # type: ignore[misc]  # bound now
                states, head(pooling, width, seed=seed), rows, in_batch=True, steps=size.steps, seed=seed
            )
        )
    models["mean, own negatives"] = many(
        lambda seed: trained(states, head("mean", width, seed=seed), rows, in_batch=False, steps=size.steps, seed=seed)
    )
    found = {way: {name: measure(one, name) for name in tasks} for way, one in models.items()}
    for way, one in found.items():
        console.print(f"  {way}: {', '.join(f'{name} {value.value:.3f}' for name, value in one.items())}", highlight=False)
    text = f"{size.tested} test pairs"
    run.settle(LATENT_STS, f"STS-B, {text}", found["mean, trained"]["sts"], found["latent, trained"]["sts"])
    run.settle(LATENT_SICK, f"SICK, {text}", found["mean, trained"]["sick"], found["latent, trained"]["sick"])
    run.settle(OVER_EOS, f"STS-B, {text}", found["eos, untrained"]["sts"], found["mean, trained"]["sts"])
    run.settle(SHAPE, f"STS-B, {text}", found["mean, untrained"]["sts"], found["latent, untrained"]["sts"])
    run.settle(PAIRS, f"STS-B, {text}", found["mean, own negatives"]["sts"], found["mean, trained"]["sts"])
    return [{"head": way} | {name: value.value for name, value in one.items()} for way, one in found.items()]


def _some(name: str, scored: Sequence[tuple[str, str, float]], count: int, draw: np.random.Generator) -> tuple[Similarity, list[Any]]:
    """A drawn part of scored pairs, as a task and as they are."""
    chosen = [scored[at] for at in sorted(draw.permutation(len(scored))[:count])]
    return similarity(name, chosen), chosen


def _classes(run: Ledger, size: Size, folder: Path) -> list[dict[str, Any]]:
    task, draw = open_task("trec"), np.random.default_rng(1)
    sides: list[list[tuple[str, str]]] = []
    for given, count in ((task.train, size.questions), (task.test, size.test_questions)):  # type: ignore[attr-defined]  # a Labels
        sides.append([given[at] for at in sorted(draw.permutation(len(given))[:count])])
    (train, labels), (test, gold) = ([[*column] for column in zip(*side, strict=True)] for side in sides)
    examples = Dataset.from_list([{"text": text, "label": label} for text, label in sides[0]])
    states = _states([*train, *test, *set(labels)], folder / "questions.safetensors")
    width = states.get_embedding_dimension()
    hits: dict[str, list[Floats]] = {}
    clusters: dict[str, list[npt.NDArray[np.int64]]] = {}
    for seed in range(size.seeds):
        by_example = from_labels(examples, "", 5, how="examples", seed=seed)
        by_name = from_labels(examples, "", 5, how="names", seed=seed)
        for way, rows, in_batch in (("own", by_example, False), ("in-batch", by_example, True), ("names", by_name, False)):
            model = trained(states, head("mean", width, seed=seed), rows, in_batch=in_batch, steps=size.question_steps, seed=seed)
            left, right = (unit(encoder(model, 128)(side, "text")) for side in (train, test))
            said = KNeighborsClassifier(NEAREST).fit(left, labels).predict(right)
            hits.setdefault(way, []).append((said == np.array(gold)).astype(np.float64))
            clusters.setdefault(way, []).append(KMeans(6, n_init=4, random_state=seed).fit_predict(right))
    accurate = {way: Sample(np.stack(one), np.ones((len(one), len(gold)))) for way, one in hits.items()}
    grouped = {way: Clusters(np.stack(one), np.array(gold)) for way, one in clusters.items()}
    text = f"TREC-6, {len(train)} questions to train on, {len(test)} to test on, {size.question_steps} steps"
    run.settle(OWN, text, accurate["in-batch"], accurate["own"])
    run.settle(EXAMPLES, text, grouped["names"], grouped["own"])
    return [{"training": way, "accuracy": accurate[way].value, "v_measure": grouped[way].value} for way in accurate]


def _mining(run: Ledger, size: Size) -> list[dict[str, Any]]:
    task: Any = open_task("cranfield")
    corpus = dict(list(task.corpus.items())[: size.documents])
    answers = {query: [name for name in found if name in corpus] for query, found in list(task.relevant.items())[: size.queries]}
    known = {query: found for query, found in answers.items() if len(found) > 1}
    judged = Judged(corpus, {query: task.queries[query] for query in known}, known)
    plain = encoder(resolve("encoder", "as-is").build(encoder_folder(), max_tokens=96))
    kept: dict[Role, npt.NDArray[np.float32]] = {}

    def once(texts: Sequence[str], role: Role) -> npt.NDArray[np.float32]:
        if role not in kept:
            kept[role] = plain(texts, role)
        return kept[role]

    found: dict[float | None, Mined] = {margin: mine(judged, once, margin=margin, negatives=7) for margin in MARGINS}
    shares = {margin: one.hidden for margin, one in found.items()}
    text = f"{len(known)} queries with two answers and more"
    for declared, before, after in ((FILTERED, None, 1.05), (TIGHTER, 1.05, 0.95), (TIGHTEST, 0.95, 0.8)):
        run.settle(declared, text, shares[before], shares[after])  # type: ignore[arg-type]  # every query has two answers
    return [
        {"margin": "none" if margin is None else str(margin)}
        | (estimate(one.hidden) or {})
        | {"negatives a query": float(np.mean([len(chosen) for chosen in one.negatives.values()]))}
        for margin, one in found.items()
    ]
