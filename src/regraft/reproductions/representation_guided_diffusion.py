"""Representation-guided diffusion, tested again: does a model that is conditioned on an image's own embedding draw nearer to real images
than one that knows the class, does a grid of embeddings become one image, do variations help a classifier with few labels?

The paper trains latent models on millions of histology and satellite patches. Here: 8 x 8 pixels of eight real images (histology, three
textures, a star field, a retina, a temple, a flower), U-Nets of two levels, 600 steps of 32 images, and scikit-learn's digits. The
U-Net tells the velocity instead of the noise, or a run this short would not learn what the condition says. The encoder learned by VICReg
on the same training crops. Gates are those of the method's description, written before any run.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.concepts.decode.decoder import EmbeddingDecoder, Examples, Plan
from regraft.concepts.decode.decoders.label_conditional import LabelConditional
from regraft.concepts.decode.decoders.representation_guided_diffusion import RepresentationGuidedDiffusion
from regraft.concepts.decode.decoders.unconditional import Unconditional
from regraft.concepts.decode.job import Drawing, cells
from regraft.concepts.decode.judging import Distance, PixelFeatures, Similarity, similarity
from regraft.concepts.decode.large import Canvas, draw_large
from regraft.concepts.decode.pictures import Pictures
from regraft.concepts.decode.report import grid_of
from regraft.concepts.decode.training import train
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.decode.encoder import Encoder, classifier, jittered, shifted
from regraft.reproductions.harness.decode.textures import crops, grids, seams, sources
from regraft.reproductions.harness.record import Findings, Ledger

NET: dict[str, Any] = {"channels": (32, 64), "width": 64, "blocks": 1, "attention_from": 1, "prediction_type": "v_prediction"}
NET |= {"lr": 2e-3, "warmup": 50}
OWN, LABEL, NONE = RepresentationGuidedDiffusion(**NET), LabelConditional(**NET), Unconditional(**NET)
FRECHET: dict[str, Any] = {"metric": "Fréchet distance, components of pixels and gradients", "unit": "squared distance", "kind": "ratio"}
COSINE: dict[str, Any] = {"metric": "cosine with the embedding asked for", "unit": "cosine"}
SEAM: dict[str, Any] = {"metric": "step across tile borders by step elsewhere", "unit": "ratio"}
RIGHT: dict[str, Any] = {"metric": "accuracy", "unit": "share"}
NEARER = Declared(
    "drawn from embeddings, images are at least 30 % nearer than from labels", "label-conditional", Expectation(high=-0.3), **FRECHET
)
LABELS = Declared("drawn from labels, images are no farther than without a condition", "unconditional", Expectation(high=0.0), **FRECHET)
COSINES = Declared("embeddings of drawn images have a cosine of 0.6 or more with those asked for", "0", Expectation(0.6), **COSINE)
SHUFFLED = Declared("that is at least 0.4 more than with another image's", "another image's embedding", Expectation(0.4), **COSINE)
TILES = Declared("tiles drawn one by one have seams of 1.3 or more", "1: none", Expectation(0.3), **SEAM)
WINDOWS = Declared("drawn by windows, large images have seams of 0.95 to 1.1", "1: none", Expectation(-0.05, 0.1), **SEAM)
BLOCKS = Declared(
    "their blocks keep 80 % of the cosine that single images have", "single images", Expectation(-0.2), kind="ratio", **COSINE
)
CELLS = Declared(
    "60 % of blocks are nearest to their own of 16 cells", "1 of 16", Expectation(0.6 - 1 / 16), metric="retrieved", unit="share"
)
FEW = Declared("5 labels a class: ten variations an image gain two points or more", "real images alone", Expectation(0.02), **RIGHT)
SHRINKS = Declared(
    "the gain is smaller with 20 labels a class", "gain with 20 labels", Expectation(0.0), metric="gain of accuracy", unit="share"
)
TEXTURES, PER_CLASS = "8 real images at 128 x 128, crops of 8 x 8; right thirds held out", (5, 20)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    seeds: int = 3
    steps: int = 600
    crops: int = 250
    held: int = 24
    encoder: int = 200
    draw: int = 12
    grids: int = 4
    digits: int = 300
    labels: int = 5


QUICK = Size(seeds=1, steps=6, crops=20, held=8, encoder=5, draw=2, grids=1, digits=6, labels=1)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 10 processor minutes in full, a quarter of one with `quick`."""
    size = QUICK if quick else Size()
    ledger = Ledger(TEXTURES)
    rows, blocks = textures(size, ledger)
    digits_rows = digits(size, ledger)
    tables = {"Textures": rows, "Large images": blocks, "Digits": digits_rows}
    return Findings(OWN.paper, ledger.claims, {"textures": rows, "large": blocks, "digits": digits_rows}, tables)


def textures(size: Size, ledger: Ledger) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Checks A and B."""
    images = sources()
    learned_from, held = crops(images, size.crops, held_out=False, seed=0), crops(images, size.held, held_out=True, seed=1)
    encoder = Encoder(learned_from.images, jittered, dim=64, steps=size.encoder)
    guess = classifier(learned_from.images, learned_from.labels, steps=size.encoder)
    examples, asked = (_examples(part.images, encoder, part.labels) for part in (learned_from, held))
    features = PixelFeatures.fit(learned_from.images)
    real = features(held.images)
    drawn: dict[str, list[Tensor]] = {}
    large = []
    for seed in range(size.seeds):
        for decoder in (OWN, LABEL, NONE):
            with step(f"{decoder.name}, seed {seed}"):
                pipeline = train(decoder, examples, Plan(size.steps, 32, seed))
                scale = 1.0 if decoder is NONE else 2.0
                drawn.setdefault(decoder.name, []).append(
                    Drawing(size.draw, scale, seed=seed).images(pipeline, decoder.conditions(asked)[0])
                )
            if decoder is OWN:
                with step("large images"):
                    large.append(large_images(pipeline, images, encoder, size, seed))
    distances = {name: Distance(real, np.stack([features(one) for one in some])) for name, some in drawn.items()}
    near = [similarity(asked.embeddings, encoder(one)) for one in drawn[OWN.name]]
    about = f"{len(held.images)} held-out crops, {size.seeds} seeds, {size.steps} steps"
    ledger.settle(NEARER, about, distances[LABEL.name], distances[OWN.name])
    ledger.settle(LABELS, about, distances[NONE.name], distances[LABEL.name])
    cosine, shuffled = (_sample([getattr(one, key) for one in near]) for key in ("cosine", "shuffled"))
    ledger.settle(COSINES, about, _constant(cosine, 0.0), cosine)
    ledger.settle(SHUFFLED, about, shuffled, cosine)
    blocks = settle_large(large, cosine, size, ledger)
    right = {name: float(np.mean([(guess(one) == held.labels).mean() for one in some])) for name, some in drawn.items()}
    rows = [{"images": "real, held out", "frechet": 0.0, "named rightly": float((guess(held.images) == held.labels).mean())}]
    rows += [{"images": name, "frechet": distances[name].value, "named rightly": right[name]} for name in drawn]
    return rows, blocks


@dataclass(frozen=True, eq=False)
class LargeImages:
    """Of each grid: steps across borders and elsewhere, of windows and of tiles one by one; how near blocks are to their cells."""

    windows: list[tuple[float, float]]
    tiles: list[tuple[float, float]]
    near: list[Similarity]


def large_images(pipeline: Any, images: list[Tensor], encoder: Encoder, size: Size, seed: int) -> LargeImages:
    found = LargeImages([], [], [])
    for number, patches in enumerate(grids(images[: size.grids], 4, 4, 8, seed)):
        cells_of = encoder(patches.flatten(0, 1))
        draw = torch.Generator().manual_seed(1000 * seed + number)
        image = draw_large(pipeline, cells_of.reshape(4, 4, -1), Canvas(steps=size.draw, guidance_scale=2.0, batch=32), generator=draw)
        alone = Drawing(size.draw, 2.0, eta=1.0, seed=1000 * seed + number).images(pipeline, cells_of)
        found.windows.append(seams(image, 4))
        found.tiles.append(seams(grid_of(alone, 4), 4))
        found.near.append(similarity(cells_of, encoder(cells(image, (4, 4)))))
    return found


def settle_large(large: list[LargeImages], single: Sample, size: Size, ledger: Ledger) -> list[dict[str, Any]]:
    about = f"grids of 4 x 4 neighbouring held-out crops of {size.grids} images, {size.seeds} seeds"

    def seam(key: str) -> Sample:
        pairs = np.array([getattr(one, key) for one in large])
        return Sample(pairs[..., 0], pairs[..., 1])

    tiles, windows = seam("tiles"), seam("windows")
    ledger.settle(TILES, about, Sample(tiles.sizes, tiles.sizes), tiles)
    ledger.settle(WINDOWS, about, Sample(windows.sizes, windows.sizes), windows)
    cosine, found = (_sample([np.concatenate([getattr(one, key) for one in seed.near]) for seed in large]) for key in ("cosine", "found"))
    ledger.settle(BLOCKS, about, _constant(cosine, single.value), cosine)
    ledger.settle(CELLS, about, _constant(found, 1 / 16), found)
    return [{"seams, tiles": tiles.value, "seams, windows": windows.value, "cosine of blocks": cosine.value, "retrieved": found.value}]


def digits(size: Size, ledger: Ledger) -> list[dict[str, Any]]:
    """Check C: an unlabelled pool for encoder and generator, a few labels of it for a classifier, other digits to judge by."""
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    X, y = load_digits(return_X_y=True)
    images = torch.from_numpy((X / 16).astype(np.float32).reshape(-1, 1, 8, 8))
    pool, judged, truth = images[:1200], X[1200:] / 16, y[1200:]
    encoder = Encoder(pool, shifted, dim=32, steps=size.encoder)
    decoder: EmbeddingDecoder = RepresentationGuidedDiffusion(**{**NET, "flips": "none"})
    with step("a generator of digits"):
        pipeline = train(decoder, _examples(pool, encoder), Plan(size.digits, 64))
    arms: dict[tuple[int, str], list[Any]] = {}
    for seed in range(size.labels):
        draw = np.random.default_rng(seed)
        for count in PER_CLASS:
            own = np.concatenate([draw.choice(np.flatnonzero(y[:1200] == digit), count, replace=False) for digit in range(10)])
            made = Drawing(size.draw, 1.0, seed=seed).images(pipeline, np.repeat(encoder(pool[own]), 10, axis=0))
            flat = made.reshape(len(made), -1).numpy()
            for name, given, labels in (
                ("real", X[own] / 16, y[own]),
                ("both", np.concatenate([X[own] / 16, flat]), np.concatenate([y[own], np.repeat(y[own], 10)])),
            ):
                arms.setdefault((count, name), []).append(SVC(C=10).fit(given, labels).predict(judged) == truth)
    found = {key: _sample(some) for key, some in arms.items()}
    ledger.data = "scikit-learn digits, 1,200 to learn from without labels, 597 held out"
    about = f"support vectors on pixels, {size.labels} draws of labels"
    ledger.settle(FEW, about, found[5, "real"], found[5, "both"])
    ledger.settle(SHRINKS, about, found[20, "both"] - found[20, "real"], found[5, "both"] - found[5, "real"])
    return [{"labels a class": n, "real": found[n, "real"].value, "real and 10 variations": found[n, "both"].value} for n in PER_CLASS]


def _examples(images: Tensor, encoder: Encoder, labels: Any = None) -> Examples:
    named = None if labels is None else [f"{label}" for label in labels]
    return Examples.of(Pictures.of(images), encoder(images), labels=named)


def _sample(rows: list[Any]) -> Sample:
    amounts = np.stack([np.asarray(row, dtype=np.float64) for row in rows])
    return Sample(amounts, np.ones_like(amounts))


def _constant(like: Sample, value: float) -> Sample:
    return Sample(np.full_like(like.amounts, value), np.ones_like(like.amounts))
