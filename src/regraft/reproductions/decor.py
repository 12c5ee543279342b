"""DECOR, tested again: does projecting a prompt off unwanted rows undo what an over-fitted LoRA leaks into it?

The paper customizes SDXL and reports CLIP and DINO scores. Here the toy pipeline learns a style, red on black, by a LoRA of rank 4 from six
pictures of one digit that it has no word for; what leaks is that digit. Prompts ask for four digits it can name, in the style; the judge
reads the digit (text: the one asked for; leak: the one learned from) and the colors (style). The unwanted rows are those of "digit" in the
training caption. Beside it stand a weaker LoRA, a negative prompt, and the two other methods that need no training. A second check asks
whether a linear probe still finds a word in the other rows of a sentence, in MiniLM. What is expected was declared below before the run;
the LoRA's rate and steps come from a look at whether it leaks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from regraft.concepts.concept import Concept
from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.images import Pictures
from regraft.concepts.host.pipeline import open_pipeline
from regraft.concepts.method import Lesson, Plan
from regraft.concepts.methods.lora import Lora
from regraft.concepts.steering.methods.decor import Decor
from regraft.concepts.steering.projection import basis, projected
from regraft.concepts.steering.steering import steer
from regraft.concepts.toy import NAME
from regraft.concepts.toy.judge import Judge
from regraft.concepts.toy.pictures import CATEGORY, HIDDEN, WORDS, concept
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger

CAPTION, WORD = "a picture of a digit in {} style", "sks"
ASKED = ("zero", "three", "five", "eight")
STRENGTHS, SCALES = (0.25, 0.5, 0.75, 1.0), (0.8, 0.6, 0.4)
SHARE: dict[str, Any] = {"metric": "share of images", "unit": "share"}
LEAKS = Declared("the host leaks: it draws the digit it learned from in 15 % of images or more", "nothing", Expectation(0.15), **SHARE)
TEXT = Declared("at strength .5 the digit asked for is drawn 10 points more often", "the LoRA", Expectation(0.10), **SHARE)
STYLE = Declared("at strength .5 the style is lost in no more than 5 points of images", "the LoRA", Expectation(-0.05), **SHARE)
LESS = Declared("the stronger, the less of the learned digit", "no order", Expectation(high=-0.8), metric="rank correlation", unit="rho")
SCALED = Declared("text at strength .5 is no lower than that of the LoRA at .6", "LoRA at .6", Expectation(0.0), **SHARE)
KEPT = Declared("style at strength .5 is no lower than that of the LoRA at .6", "LoRA at .6", Expectation(0.0), **SHARE)
NEGATIVE = Declared("text at strength .5 is no lower than with a negative prompt", "negative prompt", Expectation(0.0), **SHARE)
PROBE: dict[str, Any] = {"metric": "accuracy of a linear probe on held-out sentences", "unit": "share"}
GONE = Declared("MiniLM: a probe of the unwanted word is within 10 points of chance", "chance", Expectation(high=0.10), **PROBE)
STAYS = Declared("MiniLM: a probe of another word loses less than 5 points", "untouched rows", Expectation(-0.05), **PROBE)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 6 processor minutes in full, half of one with `quick`."""
    seeds, steps, each = (1, 60, 4) if quick else (3, 400, 16)
    pipeline, reader = open_pipeline(NAME), Judge.load()
    runs = [host(pipeline, reader, HIDDEN[seed % 3], seed, steps, each) for seed in range(seeds)]
    arms = {name: {score: sample([run[name][score] for run in runs]) for score in ("text", "leak", "style")} for name in runs[0]}
    ledger = Ledger(f"toy-t2i, a LoRA of six pictures of one hidden digit, {seeds} seeds, {len(ASKED) * each} images each")
    nothing = sample([np.zeros(len(ASKED) * each)] * seeds)
    told = f"{steps} steps, rank 4"
    ledger.settle(LEAKS, told, nothing, arms["LoRA"]["leak"])
    half = arms["strength 0.5"]
    ledger.settle(TEXT, told, arms["LoRA"]["text"], half["text"])
    ledger.settle(STYLE, told, arms["LoRA"]["style"], half["style"])
    names = ["LoRA", *(f"strength {one}" for one in STRENGTHS)]
    orders = [order([float(run[name]["leak"].mean()) for name in names]) for run in runs]
    ledger.settle_order(LESS, told, orders)
    ledger.settle(SCALED, told, arms["LoRA at 0.6"]["text"], half["text"])
    ledger.settle(KEPT, told, arms["LoRA at 0.6"]["style"], half["style"])
    ledger.settle(NEGATIVE, told, arms["negative prompt"]["text"], half["text"])
    ledger.data = "MiniLM, made sentences, 200 to fit and 200 held out"
    found = probes(40 if quick else 200)
    ledger.settle(GONE, "rows beside the word", *found["unwanted"])
    ledger.settle(STAYS, "rows beside the word", *found["other"])
    rows = [{"arm": name, **{score: one.value for score, one in scores.items()}} for name, scores in arms.items()]
    return Findings(Decor.paper, ledger.claims, {"shares": rows}, {"Shares of images": rows})


def host(pipeline: Any, reader: Judge, digit: int, seed: int, steps: int, each: int) -> dict[str, dict[str, Any]]:
    """Text, leak and style of each image by each arm, for one LoRA."""
    pictures = concept(digit, "red", "black", 6, seed=seed)
    sentence = [CAPTION]
    lesson = Lesson(pipeline, Pictures(pictures, [f"{i}.png" for i in range(6)]), WORD, CATEGORY, sentences=sentence)
    with step(f"LoRA of {digit}"):
        taught = Lora(steps=steps, batch=8, lr=1e-2, rank=4).learn(lesson, Plan(seed=seed)).concept
    prompts = [f"a picture of a {word} in {WORD} style" for word in ASKED for _ in range(each)]
    how = Drawing(steps=15, guidance=3.0, seed=1000, batch=32)
    settings = {"caption": CAPTION.format(WORD)}

    def read(concepts: Sequence[Concept], drawing: Drawing = how, **more: Any) -> dict[str, Any]:
        digits, colors = reader.read(draw(pipeline, concepts, prompts, drawing, **more))
        asked = [WORDS.index(prompt.split()[4]) for prompt in prompts]
        style = np.array([pair == ("red", "black") for pair in colors])
        return {"text": (digits == np.array(asked)) * 1.0, "leak": (digits == digit) * 1.0, "style": style * 1.0}

    found = {"no LoRA": read([]), "LoRA": read([taught])}
    for strength in STRENGTHS:
        found[f"strength {strength}"] = read([taught], steer=steer([CATEGORY], strength, settings=settings))
    for scale in SCALES:
        found[f"LoRA at {scale}"] = read([taught.scaled(scale)])  # type: ignore[attr-defined]
    found["negative prompt"] = read([taught], Drawing(steps=15, guidance=3.0, seed=1000, batch=32, negative=CATEGORY))
    for name in ("mean-subtraction", "suppress-eot"):
        found[name] = read([taught], steer=steer([CATEGORY], 1.0, method=name))
    return found


def sample(rows: Sequence[Any]) -> Sample:
    """A row a seed."""
    amounts = np.stack(rows)
    return Sample(amounts, np.ones_like(amounts))


def order(values: Sequence[float]) -> float:
    """Spearman's correlation of values with their place; not a number where they do not change."""
    from scipy.stats import spearmanr

    return float("nan") if len(set(values)) == 1 else float(spearmanr(range(len(values)), values).statistic)


def probes(count: int) -> dict[str, tuple[Sample, Sample]]:
    """For the unwanted word chance and the probe after the projection; for another word the probe before and after."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    nouns, verbs = ("doctor", "river", "engine", "garden", "letter", "market"), ("sees", "passes", "follows", "needs", "leaves")
    told = []
    for _ in range(2 * count):
        red, old = rng.random() < 0.5, rng.random() < 0.5
        one, two = rng.choice(nouns, 2, replace=False)
        told.append((f"the {'red ' if red else ''}{one} {rng.choice(verbs)} the {'old ' if old else ''}{two}", red, old))
    unwanted, rows = token_rows([sentence for sentence, _, _ in told])
    off = basis(torch.cat([one for one, _ in zip(unwanted[:count], told, strict=False) if len(one)]), energy=0.95)
    both = {"before": rows, "after": [projected(one, off, 1.0) for one in rows]}
    right = {}
    for word, column in (("unwanted", 1), ("other", 2)):
        labels = np.array([one[column] for one in told])
        for name, given in both.items():
            features = torch.stack([one.mean(0) for one in given]).numpy()
            probe = LogisticRegression(max_iter=2000).fit(features[:count], labels[:count])
            right[word, name] = (probe.predict(features[count:]) == labels[count:]) * 1.0
    labels = np.array([one[1] for one in told])[count:]
    chance = np.full(count, max(labels.mean(), 1 - labels.mean()))
    return {
        "unwanted": (Sample.of(chance), Sample.of(right["unwanted", "after"])),
        "other": (Sample.of(right["other", "before"]), Sample.of(right["other", "after"])),
    }


def token_rows(sentences: Sequence[str]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Output rows of "red" in each sentence, and those of all other words."""
    from transformers import AutoModel, AutoTokenizer

    from regraft.datasets.models import encoder_folder

    place = str(encoder_folder())
    tokenizer, model = AutoTokenizer.from_pretrained(place), AutoModel.from_pretrained(place).eval()
    own, others = [], []
    with torch.no_grad():
        for sentence in sentences:
            given = tokenizer(sentence, return_tensors="pt")
            rows = model(**given).last_hidden_state[0].float()
            tokens = tokenizer.convert_ids_to_tokens(given["input_ids"][0].tolist())
            spot = torch.tensor([token == "red" for token in tokens])
            words = torch.tensor([token not in ("red", "old", "[CLS]", "[SEP]") for token in tokens])
            own.append(rows[spot])
            others.append(rows[words])
    return own, others
