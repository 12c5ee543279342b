"""EMoE, tested again: which experts matter without training (SmolLM2-135M), and what routing while fine-tuning brings (all-MiniLM-L6-v2).

The paper fine-tunes BERT, GPT-2 and Llama with LoRA on GLUE; here the two late even layers of two small models are split. The prototype
behind the sizes below is the card's: 768 tokens of licence text; perplexity 22.8 dense, 26.7 / 40.0 / 62.5 with the top, random and bottom
half of 48 experts. What is expected was declared before any run of this script.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from regraft import datasets
from regraft.checkpoint import Checkpoint
from regraft.datasets.models import encoder_folder, model_folder
from regraft.evaluation import Score, score_text
from regraft.grow.experts import installed, to_dense, to_emoe
from regraft.grow.experts.growers.emoe import EMoE
from regraft.language.loading import load_model, quiet
from regraft.progress import console, progress_bar, step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.tasks.labelled.named import open_named
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer

EXPERTS, SENTENCES = 48, 8


def _text(claim: str, baseline: str, expected: Expectation) -> Declared:
    return Declared(claim, baseline, expected)


def _task(claim: str, baseline: str, expected: Expectation, note: str = "") -> Declared:
    return Declared(claim, baseline, expected, metric="accuracy", unit="share", note=note)


ALL = _text("all 48 experts on: the dense model's bits, within 0.0001", "dense", Expectation(low=-1e-4, high=1e-4))
TOP = {
    24: _text("top 24 of 48 cost at least 0.03 bits per byte less than random 24", "random 24 of 48", Expectation(high=-0.03)),
    12: _text("top 12 of 48 cost at least 0.05 bits per byte less than random 12", "random 12 of 48", Expectation(high=-0.05)),
}
BOTTOM = {
    24: _text("bottom 24 of 48 cost at least 0.03 bits per byte more than random 24", "random 24 of 48", Expectation(low=0.03)),
    12: _text("bottom 12 of 48 cost at least 0.03 bits per byte more than random 12", "random 12 of 48", Expectation(low=0.03)),
}
ARBITRARY = _text(
    "without training clusters are no better than an arbitrary split: top 24 within 0.05", "arbitrary split, top 24",
    Expectation(low=-0.05, high=0.05),
)  # fmt: skip
GAIN = _task("fine-tuning with top 32 of 64 is at least as accurate as without experts", "vanilla", Expectation(low=0.0))
CONTROL = _task("bottom 32 of 64 is at least half a point less accurate than top 32", "EMoE, top 32", Expectation(high=-0.005))
MERGED = _task("trained with experts and merged back: within a point of masked inference", "EMoE, masked", Expectation(-0.01, 0.01))
ONLY_TEST = _task("experts at test time alone bring nothing: at most 0 above vanilla", "vanilla", Expectation(high=0.0))


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    documents: int = 8
    seeds: int = 3
    runs: int = 3
    train: int = 600
    epochs: int = 3
    test: int = 400


QUICK = Size(documents=2, seeds=1, runs=1, train=64, epochs=1, test=64)


def reproduce(quick: bool) -> Findings:
    """Run all of it, or with `quick` a look at each part."""
    size = QUICK if quick else Size()
    text = Ledger(f"SmolLM2-135M-Instruct, layers 26 and 28 in {EXPERTS} experts, NTREX-128 English")
    costs = without_training(text, size)
    task = Ledger("all-MiniLM-L6-v2, layers 2 and 4 in 64 experts, TREC questions in six classes")
    accuracies = fine_tuned(task, size)
    return Findings(
        EMoE.paper,
        text.claims + task.claims,
        {"bits_per_byte": costs, "accuracy": accuracies},
        {"Without training (bits per byte)": costs, "Fine-tuned (accuracy)": accuracies},
    )


def without_training(run: Ledger, size: Size) -> list[dict[str, Any]]:
    """Every rule at two sizes on the same documents."""
    checkpoint = Checkpoint.open(model_folder())
    model, tokenizer = load_model(checkpoint), load_tokenizer(Tokenizer.from_directory(checkpoint.path))
    lines = datasets.fetch("ntrex-128", "eng.txt").read_text("utf-8").splitlines()
    texts = [" ".join(lines[at * SENTENCES : (at + 1) * SENTENCES]) for at in range(size.documents)]
    found: dict[str, Sample] = {}

    def measure(name: str, seeds: int = 1, **settings: Any) -> None:
        scores: list[Score] = []
        for seed in range(seeds):
            with grown(model, EMoE(experts=EXPERTS, layers="26,28", **settings)):
                torch.manual_seed(seed)
                scores.append(score_text(model, tokenizer, texts, batch_tokens=2048))
        found[name] = Sample.of_scores(scores)
        console.print(f"  {name}: {found[name].value:.4f} bits per byte", highlight=False)

    with step("scoring without training"):
        found["dense"] = Sample.of_scores([score_text(model, tokenizer, texts, batch_tokens=2048)])
        measure("all experts", top_k=EXPERTS)
        for k in (24, 12):
            measure(f"top {k}", top_k=k)
            measure(f"random {k}", size.seeds, top_k=k, rule="random")
            measure(f"bottom {k}", top_k=k, rule="bottom")
            measure(f"top {k}, by |activation|", top_k=k, score="absolute")
            measure(f"top {k}, arbitrary split", top_k=k, clusters="arbitrary")
    data = f"{len(texts)} documents of {SENTENCES} sentences"
    run.settle(ALL, data, found["dense"], found["all experts"])
    for k in (24, 12):
        run.settle(TOP[k], data, found[f"random {k}"], found[f"top {k}"])
        run.settle(BOTTOM[k], data, found[f"random {k}"], found[f"bottom {k}"])
    run.settle(ARBITRARY, data, found["top 24, arbitrary split"], found["top 24"])
    return [{"experts": name, "bits per byte": one.value, "seeds": one.seeds} for name, one in found.items()]


@contextmanager
def grown(model: nn.Module, method: EMoE) -> Iterator[None]:
    """`model` with experts within the block, and as it was afterwards."""
    to_emoe(model, method)
    try:
        yield
    finally:
        to_dense(model)


def fine_tuned(run: Ledger, size: Size) -> list[dict[str, Any]]:
    """Vanilla, EMoE and its controls from the same heads and in the same order of examples, over seeds."""
    data = open_named("trec-6")
    labels = sorted({one.labels[0] for one in data.train})
    test = data.test[: size.test]
    ways: dict[str, dict[str, Any] | None] = {
        "vanilla": None,
        "EMoE, top 32": {},
        "random split, top 32": {"clusters": "random"},
        "bottom 32": {"rule": "bottom"},
    }
    hits: dict[str, list[Any]] = {}
    with progress_bar("fine-tuning", total=size.runs * len(ways), unit="runs") as bar:
        for seed in range(size.runs):
            order = np.random.default_rng(seed).permutation(len(data.train))[: size.train]
            train = [data.train[at] for at in order]
            for name, settings in ways.items():
                method = None if settings is None else EMoE(experts=64, top_k=32, layers="2,4", **settings)
                with quiet():
                    model = train_one(train, labels, method, seed, size.epochs)
                hits.setdefault(name, []).append(model.right(test, labels))
                if name == "EMoE, top 32" and (routed := installed(model.body)) is not None:
                    routed.use("dense")
                    hits.setdefault("EMoE, merged back", []).append(model.right(test, labels))
                if name == "vanilla":
                    to_emoe(model.body, EMoE(experts=64, top_k=32, layers="2,4"))
                    hits.setdefault("vanilla, experts at test alone", []).append(model.right(test, labels))
                bar.advance()
    found = {name: Sample(np.stack(values), np.ones((len(values), len(test)))) for name, values in hits.items()}
    text = f"{size.train} training and {len(test)} test questions"
    run.settle(GAIN, text, found["vanilla"], found["EMoE, top 32"])
    run.settle(CONTROL, text, found["EMoE, top 32"], found["bottom 32"])
    run.settle(MERGED, text, found["EMoE, top 32"], found["EMoE, merged back"])
    run.settle(ONLY_TEST, text, found["vanilla"], found["vanilla, experts at test alone"])
    return [{"way": name, "accuracy": one.value, "runs": one.seeds} for name, one in found.items()]


class Classifier(nn.Module):
    """MiniLM, mean pooling and a linear head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        checkpoint = Checkpoint.open(encoder_folder())
        self.body = load_model(checkpoint)
        self.tokenizer = load_tokenizer(Tokenizer.from_directory(checkpoint.path))
        self.head = nn.Linear(self.body.config.hidden_size, classes)

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
        states, mask = self.body(**batch).last_hidden_state, batch["attention_mask"][..., None]
        logits: torch.Tensor = self.head((states * mask).sum(1) / mask.sum(1))
        return logits

    @torch.no_grad()
    def right(self, examples: Sequence[Any], labels: Sequence[str]) -> Any:
        """Hits (examples,) as 0 and 1."""
        self.eval()
        said = torch.cat([self([one.text for one in examples[at : at + 64]]).argmax(1) for at in range(0, len(examples), 64)])
        return np.array([labels[n] == one.labels[0] for n, one in zip(said.tolist(), examples, strict=True)], dtype=np.float64)


def train_one(examples: Sequence[Any], labels: Sequence[str], method: EMoE | None, seed: int, epochs: int, batch: int = 32) -> Classifier:
    """A classifier after `epochs`: AdamW, 5e-5 for the body and 1e-3 for the head, linear decay, no weight decay."""
    torch.manual_seed(seed)
    model = Classifier(len(labels))
    if method is not None:
        to_emoe(model.body, method)
    rates = [{"params": model.body.parameters(), "lr": 5e-5}, {"params": model.head.parameters(), "lr": 1e-3}]
    optimizer = torch.optim.AdamW(rates, weight_decay=0.0)
    steps = epochs * (len(examples) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: 1 - at / steps)
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model.train()
    for _ in range(epochs):
        order = draw.permutation(len(examples))
        for at in range(0, len(examples) // batch * batch, batch):
            picked = [examples[place] for place in order[at : at + batch]]
            wanted = torch.tensor([labels.index(one.labels[0]) for one in picked])
            loss = nn.functional.cross_entropy(model([one.text for one in picked]), wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model
