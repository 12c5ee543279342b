"""The loop: AdamW on noise, labels dropped outside the model, averages of the factors kept, resumable, stopped where a loss is not finite.

Enters: a `Split`, pictures, a `Plan`. Leaves: the model with its averaged parameters, and the curve.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from regraft.concepts.split.layers.gated import decay, gated
from regraft.concepts.split.model import Split
from regraft.concepts.split.objective import noise_loss
from regraft.errors import EvaluationError, ParameterError
from regraft.language.loading import check_placement
from regraft.progress import progress_bar
from regraft.training.state import load_state, save_state

Curve = list[tuple[float, float]]
POINTS = 100  # of a curve


@dataclass(frozen=True)
class Plan:
    """`steps` of AdamW with rate `lr` on batches of `batch`.

    Attributes
    ----------
    ema : of the averaged parameters, less in the first steps. drop : share of labels that are dropped, which trains the null class. decay :
        of components that act, and of nothing else. save_every : steps between states. device : where it is trained, and drawn.
    """

    steps: int = 2500
    batch: int = 64
    lr: float = 1e-3
    ema: float = 0.9999
    drop: float = 0.1
    decay: float = 0.0
    seed: int = 0
    save_every: int = 200
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.lr <= 0 or not 0 <= self.drop < 1 or not 0 <= self.ema < 1 or self.decay < 0:
            raise ParameterError(f"{self}: steps and batch from 1, lr above 0, drop and ema from 0 to below 1, decay from 0")


def fit(
    split: Split,
    images: Tensor,
    labels: Tensor,
    plan: Plan,
    *,
    rates: Mapping[str, float] = {},
    state: Path | None = None,
    title: str = "training",
) -> Curve:
    """Train what asks for a gradient in `split`, in place, on `images` (n, C, H, W) of classes `labels` (n,).

    Parameters
    ----------
    rates : multiples of the rate by name of a parameter. state : folder from which a killed run of the same plan goes on.

    Raises `EvaluationError` where a loss or a gradient is not finite; the last good state is then in `state`. `OutputError`: a state of
    another run.
    """
    check_placement("auto", plan.device)
    model, learning = (
        split.transformer.to(plan.device),
        {name: one for name, one in split.transformer.named_parameters() if one.requires_grad},
    )
    if not learning:
        raise ParameterError(f"{title}: nothing is left to learn")
    groups = [{"params": [one], "lr": plan.lr * rates.get(name, 1.0)} for name, one in learning.items()]
    fused = all(one.is_floating_point() for one in learning.values())
    optimizer = torch.optim.AdamW(groups if rates else list(learning.values()), lr=plan.lr, weight_decay=0.0, fused=fused)
    average = EMAModel(learning.values(), decay=plan.ema)
    kept = learning | {
        f"average.{name}": nn.Parameter(one, requires_grad=False) for name, one in zip(learning, average.shadow_params, strict=True)
    }
    identity = _identity(plan, images, labels, learning)
    found = None if state is None else load_state(state, kept, optimizer, identity)
    start, curve = (0, []) if found is None else (found["step"], [(float(x), float(y)) for x, y in found["curve"]])
    average.optimization_step = start
    layers, losses = list(gated(model).values()) if plan.decay else [], list[float]()

    def keep(step: int) -> None:
        if state is not None:
            save_state(state, kept, optimizer, {"step": step, "curve": curve, "identity": identity})

    model.train()
    with progress_bar(title, total=plan.steps, unit="steps") as bar:
        bar.update(start)
        for step in range(start, plan.steps):
            loss = noise_loss(model, split.scheduler, *_batch(images, labels, len(split.names), plan, step), _generator(plan.seed, step, 1))
            torch.autograd.backward(loss)
            gradients = [one.grad for one in learning.values() if one.grad is not None]
            value, norm = float(loss.detach()), float(torch.nn.utils.get_total_norm(gradients))
            if not math.isfinite(value + norm):
                keep(step)
                where = "" if state is None else f"; the last good state is in {state}, and the same call with a lower rate goes on from it"
                raise EvaluationError(f"{title}: the loss is {value:g} at step {step} (gradient {norm:g}): lower --lr {plan.lr:g}{where}")
            optimizer.step()
            optimizer.zero_grad()
            if layers:
                decay(layers, plan.lr * plan.decay)
            average.step(learning.values())
            losses.append(value)
            if (step + 1) % max(1, plan.steps // POINTS) == 0:
                curve.append((step + 1.0, sum(losses) / len(losses)))
                bar.say(f"loss {curve[-1][1]:.4f}")
                losses.clear()
            if (step + 1) % plan.save_every == 0:
                keep(step + 1)
            bar.advance()
    average.copy_to(learning.values())
    model.eval()
    return curve


def _batch(images: Tensor, labels: Tensor, null: int, plan: Plan, step: int) -> tuple[Tensor, Tensor]:
    """Images by chance with their labels, some of which are dropped: once for the class vector and the gate of every layer."""
    generator = _generator(plan.seed, step, 0)
    rows = torch.randint(len(images), (plan.batch,), generator=generator)
    dropped = torch.rand(plan.batch, generator=generator) < plan.drop
    return images[rows].to(plan.device), torch.where(dropped, null, labels[rows]).to(plan.device)


def _generator(seed: int, step: int, use: int) -> torch.Generator:
    """What is drawn in a step depends on nothing before it, so that a run that was killed draws the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 2 + use)


def _identity(plan: Plan, images: Tensor, labels: Tensor, learning: Mapping[str, nn.Parameter]) -> dict[str, object]:
    """What a state must agree in: the rate may change, which is what one does after a loss that was not finite."""
    settings = {key: value for key, value in asdict(plan).items() if key not in ("lr", "save_every", "device")}
    data = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()[:16]
    start = {name: [list(one.shape), float(one.detach().double().sum())] for name, one in learning.items()}
    found: dict[str, object] = json.loads(json.dumps({"plan": settings, "data": data, "model": start}))
    return found
