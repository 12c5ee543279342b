"""Embeddings of a language model without training, tested again: which prompt, which layer, which pooling, and what repairs the rest.

The survey gathers methods that were measured on models of billions of parameters; here SmolLM2-135M-Instruct (30 layers) encodes pairs of
the STS benchmark. One pass a prompt gives the states of all layers; every pooling is taken from those. What is expected was declared below
before the run of this script; the sizes come from an earlier measurement on another draw of pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers.sentence_transformer.modules import Pooling

from regraft.datasets.models import model_folder
from regraft.evaluation.correlation import Correlation
from regraft.method import Paper, resolve
from regraft.progress import progress_bar
from regraft.report.figures import bars
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.text.modules.skip_first import SkipFirst
from regraft.text.tasks.named import stsb

PAPER = Paper("LLMs are Also Effective Embedding Models: An In-depth Overview", "Tao et al.", 2024, "2412.12591")
LAYERS = (22, 26, 28, 30)
LAST, BEST = 30, 28
BATCH = 16
HEAD = 6  # tokens of "Rewrite the sentence:"


def _declared(claim: str, baseline: str, low: float, high: float = np.inf, note: str = "") -> Declared:
    return Declared(claim, baseline, Expectation(low=low, high=high), metric="Spearman", unit="correlation", note=note)


PROMPT = _declared("last layer: PromptEOL beats the mean by at least 0.15", "mean", 0.15)
ECHO = _declared("last layer: echo, second copy, beats the mean by at least 0.08", "mean", 0.08)
WEIGHTED = _declared("last layer: the position-weighted mean beats the mean", "mean", 0.0)
MEAN = _declared("last layer: the mean beats the last token", "last token", 0.0)
PROMPT_LAYER = _declared("PromptEOL: layer 28 is not worse than the last by more than 0.01", "layer 30", -0.01)
ECHO_LAYER = _declared("echo: layer 28 is not worse than the last by more than 0.01", "layer 30", -0.01)
SINK = _declared("layer 28, mean: leaving the first token out repairs it by at least 0.1", "with the first token", 0.1)
NORM = _declared("layer 28, mean: the final norm repairs it by at least 0.1", "raw", 0.1)
COPY = _declared("layer 28, echo: the second copy beats the first, which has not read the text before", "mean over copy 1", 0.0)
CENTER = _declared(
    "centering never costs more than 0.02: the worst of all prompts, poolings and layers", "raw", -0.02,
    note="The mean is over the texts of the pairs.",
)  # fmt: skip
CONTROL = _declared(
    "negative control: PromptEOL of the sentences of other pairs stays within 0.2 of nothing", "no relation", -0.2, 0.2
)  # fmt: skip

Floats = npt.NDArray[np.float32]
Vectors = dict[tuple[str, int], Floats]


@dataclass(frozen=True)
class Pairs:
    """Rows of the two texts of each pair among `texts`, and what people said."""

    texts: list[str]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    gold: npt.NDArray[np.float64]

    @classmethod
    def drawn(cls, count: int) -> "Pairs":
        rows = stsb("test")
        chosen = [rows[number] for number in np.random.default_rng(0).permutation(len(rows))[:count]]
        texts = list(dict.fromkeys(text for a, b, _ in chosen for text in (a, b)))
        at = {text: number for number, text in enumerate(texts)}
        left, right = (np.array([at[row[side]] for row in chosen]) for side in (0, 1))
        return cls(texts, left, right, np.array([row[2] for row in chosen]))

    def score(self, vectors: Floats, *, center: bool = False, shift: int = 0) -> Correlation:
        """Cosines beside judgements. `shift` : the second text is that of another pair."""
        rows = vectors.astype(np.float64)
        rows = rows - rows.mean(0) if center else rows
        rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
        return Correlation((rows[self.left] * rows[np.roll(self.right, shift)]).sum(1)[None], self.gold)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 6 processor minutes in full, half of one with `quick`."""
    pairs = Pairs.drawn(30 if quick else 300)
    found: Vectors = {}
    for prompt, poolings in PASSES.items():
        found |= states(prompt, poolings, pairs.texts)
    run = Ledger(f"SmolLM2-135M-Instruct; {len(pairs.gold)} test pairs of the STS benchmark, {len(pairs.texts)} texts")
    raw = {key: pairs.score(one) for key, one in found.items()}
    centered = {key: pairs.score(one, center=True) for key, one in found.items()}
    last = "layer 30, after the final norm"
    run.settle(PROMPT, last, raw["mean", LAST], raw["prompt-eol", LAST])
    run.settle(ECHO, last, raw["mean", LAST], raw["echo", LAST])
    run.settle(WEIGHTED, last, raw["mean", LAST], raw["weighted-mean", LAST])
    run.settle(MEAN, last, raw["last-token", LAST], raw["mean", LAST])
    run.settle(PROMPT_LAYER, "raw layer 28", raw["prompt-eol", LAST], raw["prompt-eol", BEST])
    run.settle(ECHO_LAYER, "raw layer 28", raw["echo", LAST], raw["echo", BEST])
    run.settle(SINK, "raw layer 28", raw["mean", BEST], raw["drop-first", BEST])
    run.settle(NORM, "raw layer 28", raw["mean", BEST], raw["mean, normed", BEST])
    run.settle(COPY, "raw layer 28", raw["echo, first copy", BEST], raw["echo", BEST])
    worst = min(raw, key=lambda key: centered[key].value - raw[key].value)
    run.settle(CENTER, f"{worst[0]}, layer {worst[1]}", raw[worst], centered[worst])
    run.settle(CONTROL, "raw layer 28", Nothing(len(pairs.gold)), pairs.score(found["prompt-eol", BEST], shift=len(pairs.gold) // 2))
    table = _table(raw, centered)
    best = {row["variant"]: max(value for key, value in row.items() if key.startswith("layer")) for row in table}
    figure = bars(best, title="Spearman at the best of four layers", ascending=False)
    return Findings(PAPER, run.claims, {"variants": table}, {"Spearman by layer": table}, {"Best layer": figure})


PASSES: Mapping[str, tuple[str, ...]] = {
    "mean": ("mean", "weighted-mean", "last-token", "drop-first", "mean, normed"),
    "prompt-eol": ("prompt-eol",),
    "token-prepending": ("token-prepending",),
    "echo": ("echo", "echo, last token", "echo, first copy"),
}


def states(prompt: str, poolings: tuple[str, ...], texts: list[str]) -> Vectors:
    """Vectors of every pooling and layer, from one pass."""
    settings: Any = {"prompt-eol": {"joint": True}, "token-prepending": {"layer": -1}}.get(prompt)
    model = resolve("encoder", prompt, settings).build(model_folder())
    body = getattr(model[0], "body", model[0])
    body.model.config.output_hidden_states = True
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    found = {(name, layer): np.zeros((len(texts), body.get_embedding_dimension()), np.float32) for name in poolings for layer in LAYERS}
    with torch.inference_mode(), progress_bar(prompt, total=len(texts), unit="texts") as bar:
        for start in range(0, len(texts), BATCH):
            rows = order[start : start + BATCH]
            out = model[0](model.preprocess([texts[row] for row in rows]))
            for name, layer in found:
                found[name, layer][rows] = pooled(name, layer, out, body.model.norm).numpy()
            bar.advance(len(rows))
    return found


def pooled(name: str, layer: int, out: Mapping[str, Any], norm: Any) -> torch.Tensor:
    """Vectors (B, d) of one pooling of one layer's states; the mask is what the prompt says is pooled."""
    states, mask = out["all_layer_embeddings"][layer], out["attention_mask"]
    if name == "mean, normed" and layer < LAST:
        states = norm(states)
    if name == "drop-first":
        mask = SkipFirst(1)({"attention_mask": mask})["attention_mask"]
    if name == "echo, first copy":
        mask = first_copy(mask)
    kinds = {"weighted-mean": "weightedmean", "last-token": "lasttoken", "prompt-eol": "lasttoken", "token-prepending": "lasttoken"}
    mode: Any = "lasttoken" if name == "echo, last token" else kinds.get(name, "mean")
    given = {"token_embeddings": states, "attention_mask": mask}
    vectors: torch.Tensor = Pooling(states.shape[-1], mode)(given)["sentence_embedding"]
    return vectors


def first_copy(mask: torch.Tensor) -> torch.Tensor:
    """The places of copy 1, which begins behind `Rewrite the sentence:` and has as many tokens as the copy in `mask`."""
    places = torch.arange(mask.shape[1])
    return ((places >= HEAD) & (places < HEAD + mask.sum(1, keepdim=True))).long()


@dataclass(frozen=True)
class Nothing:
    """Zero, whichever documents are drawn."""

    documents: int
    seeds: int = 1
    value: float = 0.0

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        return 0.0


def _table(raw: Mapping[tuple[str, int], Correlation], centered: Mapping[tuple[str, int], Correlation]) -> list[dict[str, Any]]:
    rows = []
    for name in dict.fromkeys(name for name, _ in raw):
        best = max(LAYERS, key=lambda layer: centered[name, layer].value)
        row: dict[str, Any] = {"variant": name} | {f"layer {layer}": raw[name, layer].value for layer in LAYERS}
        rows.append(row | {"best after centering": centered[name, best].value, "at layer": best})
    return rows
