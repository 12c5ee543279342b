"""A tiny CLIP of the toy pipeline's text tower, and what rows do for it: classes from few pictures, masks on canvases of two digits.

The text tower is the pipeline's own, which has learned that 2, 4 and 7 are called "digit"; an image tower of two convolutions is trained
beside it by InfoNCE. Its features are means over places, so that each place has a feature too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from regraft.concepts.search.core import Found, Pace, Task, search
from regraft.concepts.search.recognition import classification, dense
from regraft.concepts.search.through_text import ThroughText
from regraft.concepts.toy.pictures import BACKGROUNDS, FOREGROUNDS, HIDDEN, WORDS, draw, paint, strokes
from regraft.progress import progress_bar

BATCH, SCALE = 64, 20.0
PHRASE, START = "a photo of a {}", "a photo of a"
TEST = 1200  # held-out digits that are only judged; few-shot pictures are taken from the others
WAYS = ("cones", "cones, pulled", "coop", "coop, own context", "textual-inversion")


class ImageTower(nn.Sequential):
    """Two convolutions and a projection, (n, 3, h, w) to (n, 64, h / 4, w / 4); each place sees 13 x 13 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(3, 24, 5, 2, 2), nn.GroupNorm(8, 24), nn.GELU(),
            nn.Conv2d(24, 64, 5, 2, 2), nn.GroupNorm(8, 64), nn.GELU(),
            nn.Conv2d(64, width, 1),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class TinyClip:
    """Both towers, frozen. `words` : the tokenizer."""

    images: ImageTower
    text: Any
    words: Any

    @classmethod
    def train(cls, pipeline: Any, seed: int, steps: int) -> "TinyClip":
        """An image tower beside the pipeline's text tower: `steps` of InfoNCE, equal captions count as matches."""
        torch.manual_seed(seed)
        seen, text, words = draw(10 * steps, np.random.default_rng(seed)), pipeline.text_encoder, pipeline.tokenizer
        told = list(dict.fromkeys(seen.captions))
        with torch.no_grad():
            rows = normalize(cls(ImageTower(1), text, words).read(told), dim=-1)
        which, place = torch.tensor([told.index(one) for one in seen.captions]), torch.Generator().manual_seed(seed)
        tower = ImageTower(rows.shape[1])
        optimizer = torch.optim.AdamW(tower.parameters(), lr=3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        with progress_bar("image tower", steps) as bar:
            for _ in range(steps):
                some = torch.randint(len(which), (BATCH,), generator=place)
                likeness = SCALE * normalize(tower(seen.images[some]).mean((2, 3)), dim=-1) @ rows[which[some]].T
                same = (which[some][:, None] == which[some][None]).float()
                same /= same.sum(1, keepdim=True)
                loss = cross_entropy(likeness, same) + cross_entropy(likeness.T, same)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                bar.advance(1)
        return cls(tower.eval().requires_grad_(False), text, words)

    def read(self, captions: list[str]) -> torch.Tensor:
        """What the text tower says of captions (n, 64)."""
        given = self.words(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.text(given).pooler_output  # type: ignore[no-any-return]

    def classes(self) -> torch.Tensor:
        """Rows of the ten digits by their names (10, 64); those of 2, 4 and 7 are the same."""
        with torch.no_grad():
            return self.read([PHRASE.format(word) for word in WORDS])

    def through(self, way: Callable[..., ThroughText], **more: Any) -> ThroughText:
        """A tower of input rows for the ten digits."""

        def tower(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.text(ids).pooler_output  # type: ignore[no-any-return]

        return way(tower, self.text.get_input_embeddings(), self.words, WORDS, **more)


def painted(shapes: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Strokes (n, h, w) in colors that are drawn for each."""
    palette, ground = torch.tensor(list(FOREGROUNDS.values())), torch.tensor(list(BACKGROUNDS.values()))
    return paint(shapes, palette[rng.integers(len(palette), size=len(shapes))], ground[rng.integers(len(ground), size=len(shapes))])


@dataclass(frozen=True, eq=False)
class Recognized:
    """Right or not. `hidden` : each held-out 2, 4 or 7 among these three. `all` : each held-out digit among ten. `found` : the search."""

    hidden: np.ndarray
    all: np.ndarray
    found: Found | None = None


def recognition(clip: TinyClip, shots: int, seed: int, steps: int) -> dict[str, Recognized]:
    """Ten digits from `shots` pictures each: by their names, by the search behind the tower, and through it."""
    rng = np.random.default_rng(seed)
    shapes, digits = strokes(held_out=True)
    with torch.no_grad():
        features = clip.images(painted(shapes, rng)).mean((2, 3))
    pool = rng.permutation(np.arange(TEST, len(digits)))
    few = np.concatenate([pool[digits[pool] == digit][:shots] for digit in range(10)])
    task = classification(features[few], torch.tensor(digits[few]), torch.arange(10), scale=SCALE)

    def judged(rows: torch.Tensor, found: Found | None = None) -> Recognized:
        scores = normalize(features[:TEST], dim=-1) @ normalize(rows, dim=-1).T
        ask = np.isin(digits[:TEST], HIDDEN)
        among = np.array(HIDDEN)[scores[torch.from_numpy(ask)][:, list(HIDDEN)].argmax(1).numpy()]
        right = (among == digits[:TEST][ask]).astype(float)
        return Recognized(right, (scores.argmax(1).numpy() == digits[:TEST]).astype(float), found)

    result = {"names": judged(clip.classes())}
    for way in WAYS:
        result[way] = judged(*tuned(clip, task, way, seed, steps))
    return result


RATES = {"cones": 0.03, "cones, pulled": 0.03, "coop": 0.02, "coop, own context": 0.02, "textual-inversion": 0.02, "phrases": 0.02}
MASKS, PULL = 0.3, 0.01  # the search's rate for masks; how strongly rows are held to their names


def tuned(clip: TinyClip, task: Task, way: str, seed: int, steps: int, rate: float | None = None) -> tuple[torch.Tensor, Found]:
    """Rows of the ten digits by one way, and how its search went."""
    pace = Pace(steps=steps, lr=rate or RATES[way], batch=32, seed=seed, pull=PULL if way == "cones, pulled" else 0.0)
    if way.startswith("cones"):
        found = search(task, clip.classes(), pace=pace, told=way)
        return found.rows, found
    made = {
        "coop": lambda: clip.through(ThroughText.context, start=START),
        "coop, own context": lambda: clip.through(ThroughText.context, start=START, shared=False),
        "textual-inversion": lambda: clip.through(ThroughText.class_words, phrase=PHRASE),
        "phrases": lambda: clip.through(ThroughText.phrases, phrase=PHRASE),
    }[way]()
    found = search(task.through(made), made.start, pace=pace, told=way)
    with torch.no_grad():
        return made(found.rows), found


def canvases(count: int, rng: np.random.Generator, *, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two held-out digits beside each other (n, 3, 32, 64), from places `first` to `last`, and their masks by digit (n, 10, 32, 64)."""
    shapes, digits = strokes(held_out=True)
    rows = np.stack([rng.choice(np.arange(first, last), 2, replace=False) for _ in range(count)])
    masks = torch.zeros(count, 10, 32, 64)
    for side in (0, 1):
        part = masks[:, :, :, 32 * side : 32 * (side + 1)]
        part[torch.arange(count), digits[rows[:, side]]] = (shapes[rows[:, side]] > 0.5).float()
    return painted(torch.cat([shapes[rows[:, 0]], shapes[rows[:, 1]]], 2), rng), masks


def segmentation(clip: TinyClip, seed: int, steps: int, count: int = 60) -> dict[str, np.ndarray]:
    """Overlap of found and true masks, of each digit of each held-out canvas; thresholds are chosen on the canvases learned from."""
    rng = np.random.default_rng(seed)
    shown, masks = canvases(count, rng, first=TEST, last=2000)
    others, true = canvases(count, rng, first=0, last=TEST)
    with torch.no_grad():
        seen, held_out = clip.images(shown), clip.images(others)
    task, judge = dense(seen, masks), dense(held_out, true)
    rows = {"names": clip.classes(), "cones": tuned(clip, task, "cones", seed, steps, MASKS)[0]}
    rows["phrases"] = tuned(clip, task, "phrases", seed, steps)[0]
    found = {}
    for way, given in rows.items():
        with torch.no_grad():
            own, other = (one.model(one.draw(count, torch.Generator())[0], given) for one in (task, judge))
        best = max(np.linspace(-10, 6, 33), key=lambda cut: overlaps(own > cut, masks).mean())
        found[way] = overlaps(other > best, true)
    return found


def overlaps(found: torch.Tensor, true: torch.Tensor) -> np.ndarray:
    """Intersection over union of each digit that is there."""
    there = true.flatten(2).any(-1)
    a, b = found[there].flatten(1), true[there].flatten(1) > 0
    return ((a & b).sum(1) / (a | b).sum(1).clamp(min=1)).double().numpy()
