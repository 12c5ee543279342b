"""Embeddings that nobody measured: of a class, or of a text's features, alone or as a grid.

Enters: embeddings or grids of them, with labels or features. Leaves: a source that draws more, for `EmbeddingToImagePipeline` and
`draw_large`. `ClassSource` is a normal distribution a class; `GridSource` is a small diffusion model over grids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from regraft.concepts.decode.pictures import Rows
from regraft.errors import InputError
from regraft.progress import progress_bar

CLASSES, GRIDS = "classes.safetensors", "config.json"


@dataclass(frozen=True, eq=False)
class ClassSource:
    """Embeddings of a class: normal, with the mean of its own and a covariance that is shrunk as Ledoit and Wolf say.

    Attributes
    ----------
    classes : names. means : (classes, d). roots : (classes, d, d), each times its transpose is the covariance.
    """

    classes: tuple[str, ...]
    means: Rows
    roots: Rows

    @classmethod
    def fit(cls, embeddings: Rows, labels: Sequence[str]) -> "ClassSource":
        """Raises `InputError`: a class with fewer than two embeddings."""
        from sklearn.covariance import ledoit_wolf

        names = tuple(sorted(set(labels)))
        means, roots = [], []
        for name in names:
            own = embeddings[[label == name for label in labels]].astype(np.float64)
            if len(own) < 2:
                raise InputError(f"class {name!r} has {len(own)} embedding: needs two or more")
            values, vectors = np.linalg.eigh(ledoit_wolf(own)[0])
            means.append(own.mean(0))
            roots.append(vectors * np.sqrt(values.clip(0)))
        return cls(names, np.array(means, dtype=np.float32), np.array(roots, dtype=np.float32))

    def draw(self, label: str, count: int, generator: torch.Generator | None = None) -> Rows:
        """(count, d). Raises `InputError`: a class that it does not know."""
        place = class_number(self.classes, label)
        noise = torch.randn(count, self.means.shape[1], generator=generator).numpy()
        return np.asarray(self.means[place] + noise @ self.roots[place].T, dtype=np.float32)

    def save(self, folder: Path) -> None:
        names = np.frombuffer("\n".join(self.classes).encode(), dtype=np.uint8)
        save_file({"names": names, "means": self.means, "roots": self.roots}, folder / CLASSES)

    @classmethod
    def load(cls, folder: Path) -> "ClassSource":
        found = load_file(folder / CLASSES)
        return cls(tuple(found["names"].tobytes().decode().split("\n")), found["means"], found["roots"])


def class_number(classes: Sequence[str], label: str) -> int:
    if label not in classes:
        raise InputError(f"--label {label}: no such class: choose {', '.join(classes)}")
    return list(classes).index(label)


class GridSource(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    r"""p(grid | condition): a transformer that tells the clean grid from a noisy one.

    Each cell is a token: the sum of its standardized embedding, its place, the time and the condition. The loss is the squared error of
    the clean grid. The paper draws grids from features of a text model by a small diffusion model; its architecture is not
    published with the code, so this one is ours.

    Parameters
    ----------
    size : width of an embedding. rows, columns : of a grid. condition : width of the condition. classes : their names, where the condition
        is one of them.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        size: int,
        rows: int,
        columns: int,
        condition: int,
        classes: Sequence[str] = (),
        width: int = 128,
        layers: int = 3,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(size, width), nn.Linear(width, size)
        self.places = nn.Parameter(torch.randn(rows * columns, width) * 0.02)
        self.asked, self.times = nn.Linear(condition, width), nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.nothing = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))

    def forward(self, grids: Tensor, t: Tensor, condition: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Clean grids (b, cells, size) of noisy ones, at times `t` (b,), given `condition` (b, e); none where `dropped` (b,) is true."""
        asked = self.asked(condition)
        if dropped is not None:
            asked = torch.where(dropped[:, None], self.nothing, asked)
        given = asked + self.times(_waves(t, self.config.width))
        found: Tensor = self.out(self.body(self.into(grids) + self.places + given[:, None]))
        return found

    @classmethod
    def fit(
        cls,
        grids: Rows,
        conditions: Rows,
        *,
        classes: Sequence[str] = (),
        steps: int = 1000,
        batch: int = 64,
        lr: float = 1e-3,
        p_uncond: float = 0.1,
        seed: int = 0,
        **shape: Any,
    ) -> "GridSource":
        """Of `grids` (n, rows, columns, d) and `conditions` (n, e), such as features of texts. Raises `InputError`: unequal numbers."""
        if len(grids) != len(conditions):
            raise InputError(f"{len(conditions):,} conditions for {len(grids):,} grids: needs one a grid")
        n, rows, columns, size = grids.shape
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model: GridSource = cls(size=size, rows=rows, columns=columns, condition=conditions.shape[1], classes=tuple(classes), **shape)
        flat = torch.from_numpy(grids).reshape(n, rows * columns, size)
        model.mean, model.spread = flat.mean((0, 1)), flat.std((0, 1), correction=0).clamp_min(1e-6)
        clean, asked = (flat - model.mean) / model.spread, torch.from_numpy(conditions)
        schedule, draw = _schedule(), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        with progress_bar("training", steps, "steps") as bar:
            for step in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = lr * min(1.0, (step + 1) / 50, 2 * (1 - step / steps))
                picked = torch.randint(n, (min(batch, 4 * n),), generator=draw)
                t = torch.randint(1000, (len(picked),), generator=draw)
                noise = torch.randn(clean[picked].shape, generator=draw)
                dropped = torch.rand(len(picked), generator=draw) < p_uncond
                loss = (model(schedule.add_noise(clean[picked], noise, t), t, asked[picked], dropped) - clean[picked]).square().mean()
                if not torch.isfinite(loss):
                    raise InputError(f"training stopped at step {step + 1:,}: the loss is not a finite number: lower lr")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                bar.say(f"loss {float(loss.detach()):.3f}")
                bar.advance()
        model.eval()
        return model

    @torch.no_grad()
    def draw(self, conditions: Any, *, steps: int = 50, guidance_scale: float = 1.0, generator: torch.Generator | None = None) -> Rows:
        """(n, rows, columns, d), a grid a row of `conditions` (n, e). Raises `InputError`: conditions of another width."""
        asked = torch.as_tensor(np.asarray(conditions), dtype=torch.float32)
        if asked.ndim != 2 or asked.shape[1] != self.config.condition:
            raise InputError(f"conditions of shape {tuple(asked.shape)}: this source was trained on (n, {self.config.condition})")
        schedule = _schedule()
        schedule.set_timesteps(steps)
        x = torch.randn(len(asked), self.config.rows * self.config.columns, self.config.size, generator=generator)
        everyone = torch.ones(len(asked), dtype=torch.bool)
        for t in schedule.timesteps:
            at = t.expand(len(asked))
            found = self(x, at, asked)
            if guidance_scale != 1:
                without = self(x, at, asked, everyone)
                found = without + guidance_scale * (found - without)
            x = schedule.step(found, t, x, eta=1.0, generator=generator).prev_sample
        grids = (x * self.spread + self.mean).reshape(len(asked), self.config.rows, self.config.columns, self.config.size)
        return np.asarray(grids.numpy(), dtype=np.float32)


def _schedule() -> Any:
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False, timestep_spacing="trailing")


def _waves(t: Tensor, width: int) -> Tensor:
    """(b, width) sines and cosines of `t`, as in transformers."""
    rates = torch.exp(-np.log(10_000) * torch.arange(width // 2) / (width // 2))
    angles = t[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def open_source(folder: str | Path) -> ClassSource | GridSource:
    """What `save` or `save_pretrained` wrote. Raises `InputError`: nothing of the kind."""
    folder = Path(folder)
    if (folder / CLASSES).is_file():
        return ClassSource.load(folder)
    if (folder / GRIDS).is_file():
        return GridSource.from_pretrained(folder).eval()  # type: ignore[no-any-return]
    raise InputError(f"{folder}: no source of embeddings that regraft concept decode source wrote")
