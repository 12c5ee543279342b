"""Digits and small vision transformers: a model that learns them from labels, and accuracy image by image.

Scikit-learn's handwritten digits, 1,797 images of 8 x 8, in patches of 2: 16 tokens. The transformer has no class token and classifies by
the mean of normed tokens, as the auxiliary networks of TLEG and SWS do: `IJepaForImageClassification` of transformers.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from regraft.checkpoint import Checkpoint
from regraft.grow.depth.learned.batches import rows_of
from regraft.grow.depth.stack import LayerStack
from regraft.language.loading import quiet
from regraft.reproductions.harness.claim import Sample

TRAIN, BATCH, WIDTH = 1200, 64, 48
STD, PLACES = 0.1, 0.5  # deviations of what is random: matrices, places of patches
EPOCH = TRAIN // BATCH  # steps


class Digits:
    """Images of one seed, in one order: the first 1,200 are trained on, the other 597 tested on."""

    def __init__(self, seed: int) -> None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(images))
        pixels = torch.from_numpy(images[order] / 16).float().view(-1, 1, 8, 8)
        self.seed = seed
        self.pixels, self.labels = (pixels - 0.3) / 0.38, torch.from_numpy(labels[order]).long()

    def batch(self, step: int) -> Mapping[str, torch.Tensor]:
        """Training images without their labels: what teacher and student see."""
        return {"pixel_values": self.pixels[self._rows(step)]}

    def _rows(self, step: int) -> torch.Tensor:
        return torch.from_numpy(rows_of(step, BATCH, TRAIN, self.seed))

    def train(self, model: Any, epochs: float, lr: float) -> Any:
        """`model` trained in place on labels: AdamW, decay 0.05, a cosine to zero; returned in evaluation mode."""
        steps = max(1, round(epochs * EPOCH))
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        model.train()
        for step in range(steps):
            labels = self.labels[self._rows(step)]
            loss = cross_entropy(model(**self.batch(step)).logits, labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        return model.eval()

    @torch.no_grad()
    def hits(self, model: Any) -> npt.NDArray[np.float64]:
        """1 for each test image that `model` knows."""
        logits = torch.cat([model(pixel_values=part).logits for part in torch.split(self.pixels[TRAIN:], 256)])
        return (logits.argmax(1) == self.labels[TRAIN:]).double().numpy()


def vision_transformer(layers: int, seed: int) -> Any:
    """Untrained, 48 wide, 4 heads. Matrices start larger than the usual 0.02, which is meant for wider models and learns nothing here."""
    from transformers import IJepaConfig, IJepaForImageClassification

    config = IJepaConfig(
        hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=2 * WIDTH, image_size=8, patch_size=2,
        num_channels=1, initializer_range=STD,
    )  # fmt: skip
    config.num_labels = 10
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = IJepaForImageClassification(config)
        torch.nn.init.normal_(model.ijepa.embeddings.position_embeddings, std=PLACES)
    return model


def kept(model: Any, folder: Path) -> LayerStack:
    """`model` as a checkpoint in `folder`."""
    with quiet(), contextlib.redirect_stderr(None):
        model.save_pretrained(folder)
    return LayerStack.open(Checkpoint.open(folder))


def accuracy(hits: list[npt.NDArray[np.float64]]) -> Sample:
    """Hits of each seed as a sample over test images."""
    amounts = np.stack(hits)
    return Sample(amounts, np.ones_like(amounts))
