"""Meta-training: many small models, whose weights are predicted with gradient, are run on the same examples (section 2.7).

Enters: a hypernetwork, a space of architectures, examples. Leaves: the hypernetwork, trained: of all looks at an architecture kept for
validation the best one. What step t draws depends on the seed and t alone, so a killed run goes on where it was.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from regraft.errors import InputError
from regraft.grow.predict.data import Examples
from regraft.grow.predict.graph import Graph
from regraft.grow.predict.hypernetwork.network import Hypernet
from regraft.grow.predict.space import Space
from regraft.grow.predict.targets import Target, config_of
from regraft.output import atomic_file
from regraft.progress import progress_bar

KEPT_TARGETS = 256
WARMUP = 5 / 300  # share of steps
WARMUP_LR = 1e-5
SMALLEST_SCALE, GROWTH = 1024.0, 100  # of the loss under AMP


@checked(frozen=True, kw_only=True)
class MetaTraining:
    """Hyper-parameters of meta-training.

    Attributes
    ----------
    steps, batch : how many, and examples in each: 64 for CIFAR, 128 for ImageNet, 6 sequences for GPT-2. The paper trains 300 epochs.
    m : architectures a step: 1 for ViT, 2 for GPT-2; 4 helped the smallest hypernetwork, 8 hurt.
    lr, wd : AdamW; 3e-4 for ViT; 1e-4 for GPT-2 in the paper, 3e-4 in the released command.
    gamma : weight of the sum of Frobenius norms of predicted tensors. clip : largest norm of the gradient.
    label_smoothing : 0.1 for ImageNet, else 0. ema : decay of an average of the weights, such as 0.999; 0: none.
    amp : half precision with a scaled loss, on a GPU only.
    look_every : steps between looks at the validation architecture; 0: the last step's weights are kept.
    """

    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=64, ge=1)
    m: int = Field(default=1, ge=1)
    lr: float = Field(default=3e-4, gt=0)
    wd: float = Field(default=1e-2, ge=0)
    gamma: float = Field(default=3e-5, ge=0)
    clip: float = Field(default=5.0, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(default=0.0, ge=0, lt=1)
    amp: bool = False
    look_every: int = Field(default=100, ge=0)


@dataclass
class Targets:
    """Targets of a space by their config, with buffers in memory; graphs are traced once for each depth."""

    space: Space
    examples: Examples
    known: dict[str, Target] = field(default_factory=dict)
    graphs: dict[tuple[Any, ...], Graph] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> Target:
        return self.of(self.space.draw(rng, self.examples.fields))

    def of(self, fields: Mapping[str, Any]) -> Target:
        key = str(sorted(fields.items(), key=lambda one: one[0]))
        if key not in self.known:
            if len(self.known) >= KEPT_TARGETS:
                self.known.pop(next(iter(self.known)))
            target = Target(config_of(fields))
            depth = (target.config.num_hidden_layers, len(target.shapes))
            if depth in self.graphs:
                target.__dict__["graph"] = self.graphs[depth]  # models of one depth differ in shapes alone
            self.graphs[depth] = target.graph
            target.with_buffers()
            self.known[key] = target
        return self.known[key]


@dataclass(frozen=True)
class Look:
    """One look at the validation architecture: the step, and the loss on examples that are only scored."""

    step: int
    loss: float


def train(
    network: Hypernet,
    targets: Targets,
    settings: MetaTraining,
    *,
    seed: int,
    validation: Mapping[str, Any] | None = None,
    device: str = "cpu",
    partial: Path | None = None,
    save_every: int = 200,
) -> list[Look]:
    """Train `network` in place and return the looks. With `partial` its state is kept there now and then, and taken up again.

    Raises `InputError` where the loss is not finite, or `partial` is of another run.
    """
    network.to(device).train()
    run = _Run(network, settings, validation is not None and settings.look_every > 0)
    fingerprint = str((asdict(settings), seed, network.predictor, targets.space, dict(targets.examples.fields), validation))
    begun = run.load(partial, fingerprint) if partial is not None and partial.is_file() else 0
    checked_on = targets.of(validation) if validation is not None else None
    with progress_bar("meta-training", settings.steps, "steps") as bar:
        bar.update(begun, settings.steps)
        for step in range(begun, settings.steps):
            loss = run.step(step, targets, np.random.default_rng([seed, step]), device)
            if not math.isfinite(loss):
                raise InputError(f"the loss of step {step + 1} is not finite: try a lower lr than {settings.lr:g}")
            bar.advance()
            bar.say(f"loss {loss:.3f}")
            last = step + 1 == settings.steps
            if checked_on is not None and settings.look_every and ((step + 1) % settings.look_every == 0 or last):
                run.look(step + 1, checked_on, targets.examples, device)
            if partial is not None and (step + 1) % save_every == 0 and not last:
                run.save(partial, fingerprint, step + 1)
    run.finish()
    network.eval()
    return run.looks


class _Run:
    """What changes while a hypernetwork is trained."""

    def __init__(self, network: Hypernet, settings: MetaTraining, keep_best: bool) -> None:
        self.network, self.settings, self.keep_best = network, settings, keep_best
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.wd)
        self.average = {name: one.detach().clone() for name, one in network.named_parameters()} if settings.ema else {}
        self.best: dict[str, torch.Tensor] = {}
        self.looks: list[Look] = []
        self.scaler = torch.amp.GradScaler("cuda", enabled=settings.amp, growth_interval=GROWTH)

    def step(self, step: int, targets: Targets, rng: np.random.Generator, device: str) -> float:
        settings = self.settings
        models = [targets.draw(rng) for _ in range(settings.m)]
        inputs, labels = (one.to(device) for one in targets.examples.batch(settings.batch, rng))
        seed = int(rng.integers(2**31))
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(step, settings)
        with torch.autocast(torch.device(device).type, enabled=settings.amp):
            loss = self._loss(models, targets.examples.name, inputs, labels, seed)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if settings.amp and self.scaler.get_scale() < SMALLEST_SCALE:
            self.scaler.update(SMALLEST_SCALE)
        for name, one in self.network.named_parameters() if self.average else ():
            self.average[name].lerp_(one.detach(), 1 - settings.ema)
        return float(loss.detach())

    def _loss(self, models: list[Target], name: str, inputs: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
        """Mean over models of cross entropy and `gamma` times the norms of all that was predicted."""
        predicted = self.network([(one.graph, one.shapes) for one in models], initializer_range=models[0].initializer_range)
        losses = []
        for target, tensors in zip(models, predicted, strict=True):
            norms = torch.stack([one.norm() for one in tensors.values()]).sum()
            losses.append(loss_of(target, tensors, name, inputs, labels, seed, self.settings.label_smoothing) + self.settings.gamma * norms)
        return torch.stack(losses).mean()

    @torch.no_grad()
    def look(self, step: int, target: Target, examples: Examples, device: str) -> None:
        """Measure the validation architecture; keep these weights if they are the best so far."""
        with _swapped(self.network, self.average):
            self.network.eval()
            tensors = self.network([(target.graph, target.shapes)])[0]
            inputs, labels = (one.to(device) for one in examples.kept)
            loss = float(loss_of(target, tensors, examples.name, inputs, labels, 0))
            self.network.train()
            if self.keep_best and loss <= min((one.loss for one in self.looks), default=math.inf):
                self.best = {name: one.detach().clone() for name, one in self.network.state_dict().items()}
        self.looks.append(Look(step, loss))

    def finish(self) -> None:
        chosen = self.best or self.average
        if chosen:
            self.network.load_state_dict(chosen, strict=False)

    def save(self, path: Path, fingerprint: str, step: int) -> None:
        tensors = {f"network.{name}": one for name, one in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(one) for name, one in state.items()}
        tensors |= {f"average.{name}": one for name, one in self.average.items()} | {f"best.{name}": one for name, one in self.best.items()}
        looks = " ".join(f"{one.step}:{one.loss!r}" for one in self.looks)
        with atomic_file(path) as temporary:
            contiguous = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
            save_file(contiguous, temporary, {"fingerprint": fingerprint, "step": str(step), "looks": looks})

    def load(self, path: Path, fingerprint: str) -> int:
        """Take up a state; returns the steps that are done."""
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: the state of an interrupted run cannot be read ({error}): remove it to start anew") from None
        if header.get("fingerprint") != fingerprint:
            raise InputError(f"{path}: the state of a run with other settings or data: remove it to start anew, or give the same settings")
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimizer": {}, "average": {}, "best": {}}
        for name, one in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = one
        self.network.load_state_dict(parts["network"])
        state = self.optimizer.state_dict()
        state["state"] = {}
        for name, one in parts["optimizer"].items():
            number, _, entry = name.partition(".")
            state["state"].setdefault(int(number), {})[entry] = one
        self.optimizer.load_state_dict(state)
        device = next(self.network.parameters()).device
        self.average = {name: one.to(device) for name, one in parts["average"].items()}
        self.best = parts["best"]
        self.looks = [Look(int(a), float(b)) for a, _, b in (one.partition(":") for one in header["looks"].split())]
        return int(header["step"])


class _swapped:  # noqa: N801  # reads as a statement
    """The network with other weights for a while."""

    def __init__(self, network: Hypernet, weights: Mapping[str, torch.Tensor]) -> None:
        self.network, self.weights = network, weights

    def __enter__(self) -> None:
        self.own = {name: one.detach().clone() for name, one in self.network.state_dict().items()} if self.weights else {}
        self.network.load_state_dict(self.weights, strict=False)

    def __exit__(self, *_: object) -> Literal[False]:
        if self.own:
            self.network.load_state_dict(self.own)
        return False


def loss_of(
    target: Target,
    tensors: Mapping[str, torch.Tensor],
    name: str,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    seed: int,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross entropy of a target with predicted `tensors`; what was not predicted is drawn from `seed`. For tokens, of each next one."""
    logits = logits_of(target, tensors, name, inputs, seed)
    if labels.ndim > 1:
        logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def logits_of(target: Target, tensors: Mapping[str, torch.Tensor], name: str, inputs: torch.Tensor, seed: int) -> torch.Tensor:
    """What a target gives for `inputs` with `tensors` in place of its parameters."""
    drawn = {one: value.to(inputs.device) for one, value in target.fresh(set(target.shapes) - tensors.keys(), seed).items()}
    extra = {"use_cache": False} if name == "input_ids" else {}
    buffers = {one: value.to(inputs.device) for one, value in target.model.named_buffers()}
    out: torch.Tensor = functional_call(target.model, {**buffers, **drawn, **tensors}, (), {name: inputs, **extra}, tie_weights=True).logits
    return out


def lr_at(step: int, settings: MetaTraining) -> float:
    """Linear warm-up from 1e-5, then a cosine to 0."""
    warm = max(1, round(WARMUP * settings.steps))
    if step < warm:
        return WARMUP_LR + (settings.lr - WARMUP_LR) * step / warm if settings.lr > WARMUP_LR else settings.lr
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, settings.steps - warm)))
