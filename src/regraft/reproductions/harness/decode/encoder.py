"""A small convolutional encoder that learns without labels, by VICReg (Bardes et al. 2022), and a classifier of its kind."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.concepts.decode.pictures import Rows
from regraft.progress import progress_bar


def trunk(channels: int, dim: int) -> nn.Sequential:
    """Four layers, each but the first halving the side; the mean over places."""
    layers: list[nn.Module] = []
    for before, after, stride in ((channels, 16, 1), (16, 32, 2), (32, 64, 2), (64, dim, 1)):
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Encoder:
    """Embeddings (n, dim), each dimension with mean 0 and spread 1 over what it learned from; frozen."""

    def __init__(
        self, images: Tensor, augment: Callable[[Tensor, torch.Generator], Tensor], *, dim: int, steps: int, seed: int = 0
    ) -> None:
        torch.manual_seed(seed)
        self.trunk = trunk(images.shape[1], dim)
        expand = nn.Sequential(nn.Linear(dim, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128))
        optimizer = torch.optim.AdamW([*self.trunk.parameters(), *expand.parameters()], lr=2e-3)
        draw = torch.Generator().manual_seed(seed)
        with progress_bar("an encoder learns", steps, "steps") as bar:
            for _ in range(steps):
                batch = images[torch.randint(len(images), (128,), generator=draw)]
                views = [expand(self.trunk(augment(batch, draw))) for _ in range(2)]
                loss = vicreg(*views)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                bar.advance()
        self.trunk.eval()
        raw = self._raw(images)
        self.mean, self.spread = raw.mean(0), raw.std(0).clamp_min(1e-6)

    @torch.no_grad()
    def _raw(self, images: Tensor) -> Tensor:
        return torch.cat([self.trunk(part) for part in torch.split(images, 256)])

    def __call__(self, images: Tensor) -> Rows:
        return np.asarray(((self._raw(images) - self.mean) / self.spread).numpy(), dtype=np.float32)


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """25 times the squared difference of views, 25 times the hinge of each spread below 1, once the squared covariances."""

    def apart(x: Tensor) -> Tensor:
        x = x - x.mean(0)
        covariance = x.T @ x / (len(x) - 1)
        off = covariance - torch.diag(covariance.diagonal())
        return 25 * functional.relu(1 - (x.var(0) + 1e-4).sqrt()).mean() + off.square().sum() / x.shape[1]

    return 25 * functional.mse_loss(a, b) + apart(a) + apart(b)


def jittered(images: Tensor, draw: torch.Generator) -> Tensor:
    """Flips, and brightness and contrast of each by up to a fifth."""
    for axis in (2, 3):
        coins = torch.rand(len(images), generator=draw) < 0.5
        images = torch.where(coins[:, None, None, None], images.flip(axis), images)
    light, contrast = (torch.rand(len(images), 1, 1, 1, generator=draw) * 0.4 - 0.2 for _ in range(2))
    mean = images.mean((1, 2, 3), keepdim=True)
    return ((images - mean) * (1 + contrast) + mean + light / 2).clamp(0, 1)


def shifted(images: Tensor, draw: torch.Generator) -> Tensor:
    """Moved by up to one pixel, and a little noise: what leaves a digit a digit."""
    padded = functional.pad(images, (1, 1, 1, 1))
    down, right = (torch.randint(3, (len(images),), generator=draw) for _ in range(2))
    rows = down[:, None] + torch.arange(images.shape[2])
    columns = right[:, None] + torch.arange(images.shape[3])
    found = padded[torch.arange(len(images))[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return (found + 0.05 * torch.randn(found.shape, generator=draw)).clamp(0, 1)


def classifier(images: Tensor, labels: npt.NDArray[np.int64], *, steps: int, seed: int = 0) -> Callable[[Tensor], npt.NDArray[np.int64]]:
    """A trunk with a head, trained on labels."""
    torch.manual_seed(seed)
    model = nn.Sequential(trunk(images.shape[1], 64), nn.ReLU(), nn.Linear(64, int(labels.max()) + 1))
    optimizer, truth = torch.optim.AdamW(model.parameters(), lr=2e-3), torch.from_numpy(labels)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        picked = torch.randint(len(images), (128,), generator=draw)
        loss = functional.cross_entropy(model(jittered(images[picked], draw)), truth[picked])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()

    @torch.no_grad()
    def guess(given: Tensor) -> npt.NDArray[np.int64]:
        return np.asarray(model(given).argmax(1).numpy())

    return guess
