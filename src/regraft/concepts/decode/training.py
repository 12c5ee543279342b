"""U-Net and conditioner learn to tell the noise in images; what a killed run had reached is taken up again.

Enters: examples, a decoder's settings, a plan. Leaves: an `EmbeddingToImagePipeline`. Everything random in a step follows from the seed
and the number of the step, so a run that goes on where another stopped ends where that one would have ended.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from regraft.concepts.decode.conditioner import EmbeddingConditioner
from regraft.concepts.decode.decoder import EmbeddingDecoder, Examples, Plan
from regraft.concepts.decode.pictures import Pictures, Rows
from regraft.concepts.decode.pipeline import EmbeddingToImagePipeline
from regraft.errors import InputError, ParameterError
from regraft.output import atomic_file
from regraft.progress import progress_bar

STATE, STEP = "state.safetensors", "step"
NOISE = {"num_train_timesteps": 1000, "beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}


class NotFiniteError(InputError):
    """The loss is no number any more. Training stopped; the last good state is kept."""


@dataclass
class Kept:
    """Where a run stands, in `folder` (None: in memory alone), every `every` steps; one file, which appears whole."""

    folder: Path | None
    about: str
    every: int = 200
    last: dict[str, Tensor] = field(default_factory=dict)

    def found(self) -> dict[str, Tensor]:
        """What an earlier run of the same settings left. Raises `InputError`: it is of another run."""
        path = None if self.folder is None else self.folder / STATE
        if path is None or not path.is_file():
            return {}
        from safetensors import safe_open

        with safe_open(path, "pt") as opened:
            if (opened.metadata() or {}).get("about") != self.about:
                raise InputError(
                    f"{self.folder}: holds an unfinished run with other settings or data: finish that one, or remove the folder"
                )
        return dict(load_file(path))

    def keep(self, tensors: Mapping[str, Tensor]) -> None:
        self.last = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.folder / STATE) as part:
                save_file(self.last, part, {"about": self.about})


def fit(
    pictures: Pictures,
    embeddings: Rows,
    *,
    regions: Rows | None = None,
    decoder: EmbeddingDecoder | None = None,
    plan: Plan | None = None,
    **options: Any,
) -> EmbeddingToImagePipeline:
    """Train on images and their embeddings (n, d), and those of the regions around them; `options` as in `train`."""
    if decoder is None:
        from regraft.concepts.decode.decoders.representation_guided_diffusion import RepresentationGuidedDiffusion

        decoder = RepresentationGuidedDiffusion()
    return train(decoder, Examples.of(pictures, embeddings, regions=regions), plan or Plan(), **options)


def train(
    decoder: EmbeddingDecoder,
    examples: Examples,
    plan: Plan,
    *,
    vae: Any = None,
    start: UNet2DConditionModel | None = None,
    device: str = "cpu",
    unfinished: Path | None = None,
    curve: list[tuple[float, float]] | None = None,
) -> EmbeddingToImagePipeline:
    """A trained pipeline.

    Parameters
    ----------
    vae : a diffusers autoencoder, frozen; None works on pixels. start : a U-Net to start from, whose `cross_attention_dim` is the decoder's
        `width`. unfinished : folder for the state of a run that stops; a run of the same settings goes on from there.
    curve : gets (step, loss averaged since the last entry).

    Raises `NotFiniteError`: the loss is no number; the last good state is in `unfinished`. `InputError`: sizes that do not fit.
    """
    from accelerate import Accelerator

    conditions, levels = decoder.conditions(examples)
    pipeline = built(decoder, examples.pictures, levels, vae, start, plan.seed)
    pipeline.to(device)
    unet, conditioner = pipeline.unet, pipeline.conditioner
    learned = [*unet.parameters(), *conditioner.parameters()]
    optimizer = torch.optim.AdamW(learned, lr=decoder.lr)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=plan.precision)
    unet, conditioner, optimizer = accelerator.prepare(unet, conditioner, optimizer)
    kept = Kept(unfinished, json.dumps([str(decoder), decoder.name, asdict(plan) | {"steps": None}, levels, len(conditions)]))
    schedule = DDPMScheduler(**NOISE)
    begun = _restored(kept.found(), pipeline, optimizer)
    kept.last = kept.last or _state(pipeline, optimizer, begun)
    rows, seen = torch.from_numpy(conditions), []
    unet.train()
    with progress_bar("training", plan.steps, "steps") as bar:
        bar.update(begun)
        for step in range(begun, plan.steps):
            loss = _loss(pipeline, unet, examples.pictures, rows, schedule, decoder, plan, step)
            if not torch.isfinite(loss):
                raise NotFiniteError(_stopped(step, kept))
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(learned, 1.0)
            if not math.isfinite(norm) and plan.precision != "fp16":  # there the scaler skips the step, and lowers its scale
                raise NotFiniteError(_stopped(step, kept))
            for group in optimizer.param_groups:
                group["lr"] = decoder.lr * min(1.0, (step + 1) / max(1, decoder.warmup))
            optimizer.step()
            seen.append(float(loss.detach()))
            if (step + 1) % kept.every == 0 and step + 1 < plan.steps:
                kept.keep(_state(pipeline, optimizer, step + 1))
            if curve is not None and (len(seen) >= max(1, plan.steps // 50) or step + 1 == plan.steps):
                curve.append((float(step + 1), sum(seen) / len(seen)))
                seen = []
            bar.say(f"loss {float(loss.detach()):.3f}")
            bar.advance()
    if unfinished is not None:
        kept.keep(_state(pipeline, optimizer, plan.steps))
    pipeline.unet.eval()
    return pipeline


def _loss(
    pipeline: EmbeddingToImagePipeline,
    unet: Any,
    pictures: Pictures,
    rows: Tensor,
    schedule: Any,
    decoder: EmbeddingDecoder,
    plan: Plan,
    step: int,
) -> Tensor:
    """Mean squared error of what the U-Net tells, noise or velocity, in the batch of `step`."""
    draw = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    device = pipeline.unet.device
    picked = torch.randint(len(rows), (plan.batch,), generator=draw)
    images = _flipped(pictures.take(picked), decoder.flips, draw).to(device)
    with torch.no_grad():
        latents = pipeline.encoded(images, draw if device.type == "cpu" else None)
    noise = torch.randn(latents.shape, generator=draw).to(device)
    t = torch.randint(schedule.config.num_train_timesteps, (plan.batch,), generator=draw).to(device)
    tokens = pipeline.conditioner(pipeline.conditioner.dropped(rows[picked].to(device), decoder.p_uncond, draw))
    predicted = unet(schedule.add_noise(latents, noise, t), t, tokens).sample
    target = noise if decoder.prediction_type == "epsilon" else schedule.get_velocity(latents, noise, t)
    return torch.nn.functional.mse_loss(predicted.float(), target)


def _flipped(images: Tensor, flips: str, draw: torch.Generator) -> Tensor:
    """Each image mirrored left to right, and upside down, by coins of its own."""
    for axis in {"both": (3, 2), "horizontal": (3,), "none": ()}[flips]:
        coins = torch.rand(len(images), generator=draw) < 0.5
        images = torch.where(coins[:, None, None, None], images.flip(axis), images)
    return images


def built(
    decoder: EmbeddingDecoder, pictures: Pictures, levels: tuple[int, ...], vae: Any, start: UNet2DConditionModel | None, seed: int
) -> EmbeddingToImagePipeline:
    """The pipeline before training. Raises `InputError`: image sizes, groups of channels or a start that do not fit."""
    depth = len(decoder.channels)
    factor = 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
    unit = factor * 2 ** (depth - 1)
    if pictures.size % unit:
        near = max(unit, round(pictures.size / unit) * unit)
        raise InputError(
            f"images of {pictures.size} pixels do not halve {depth - 1} times: scale them by --image-size {near}, or use fewer channels"
        )
    channels = pictures.channels if vae is None else int(vae.config.latent_channels)
    if vae is not None:
        vae.requires_grad_(False).eval()
        if pictures.channels != vae.config.in_channels:
            raise InputError(f"images have {pictures.channels} channel(s), the autoencoder takes {vae.config.in_channels}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conditioner = EmbeddingConditioner(levels=levels, width=decoder.width, normalize=decoder.normalize)
        unet = start or _unet(decoder, channels, pictures.size // factor)
    _check_start(unet, decoder, channels)
    unet.register_to_config(sample_size=pictures.size // factor)
    scheduler = DDIMScheduler(**NOISE, clip_sample=vae is None, prediction_type=decoder.prediction_type)
    return EmbeddingToImagePipeline(unet, conditioner, scheduler, vae)


def _unet(decoder: EmbeddingDecoder, channels: int, size: int) -> UNet2DConditionModel:
    depth = len(decoder.channels)
    attends = [level >= decoder.attention_from for level in range(depth)]
    groups = math.gcd(32, *decoder.channels)
    if any(one % decoder.heads for one in decoder.channels):
        raise ParameterError(f"{decoder.name}: heads={decoder.heads} does not divide the channels {decoder.channels}")
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=decoder.channels,
        layers_per_block=decoder.blocks,
        down_block_types=tuple("CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attends)),
        cross_attention_dim=decoder.width,
        attention_head_dim=decoder.heads,  # so called there: it is the number of heads
        norm_num_groups=groups,
    )


def _check_start(unet: UNet2DConditionModel, decoder: EmbeddingDecoder, channels: int) -> None:
    wanted = {"cross_attention_dim": decoder.width, "in_channels": channels, "out_channels": channels}
    for name, value in wanted.items():
        if getattr(unet.config, name) != value:
            raise InputError(
                f"the U-Net to start from has {name} {getattr(unet.config, name)}, needed is {value} (--set width=... sets tokens)"
            )


def _state(pipeline: EmbeddingToImagePipeline, optimizer: Any, step: int) -> dict[str, Tensor]:
    """Weights, moments of the optimizer and the number of steps, as tensors by name."""
    found = {STEP: torch.tensor(step)}
    for part in ("unet", "conditioner"):
        found |= {f"{part} {name}": value for name, value in getattr(pipeline, part).state_dict().items()}
    for place, own in optimizer.state_dict()["state"].items():
        found |= {f"moment {place} {name}": value for name, value in own.items()}
    return found


def _restored(state: Mapping[str, Tensor], pipeline: EmbeddingToImagePipeline, optimizer: Any) -> int:
    """Put a kept state in its place; how many steps it had."""
    if not state:
        return 0
    for part in ("unet", "conditioner"):
        getattr(pipeline, part).load_state_dict({k.split(" ", 1)[1]: v for k, v in state.items() if k.startswith(f"{part} ")})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("moment "):
            _, place, key = name.split(" ")
            moments.setdefault(int(place), {})[key] = value
    if moments:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(state[STEP])


def _stopped(step: int, kept: Kept) -> str:
    reached = int(kept.last[STEP])
    if kept.folder is not None:
        kept.keep(kept.last)
    where = (
        f"the state after step {reached:,} is kept in {kept.folder}"
        if kept.folder is not None
        else f"the last good state is of step {reached:,}"
    )
    return (
        f"training stopped at step {step + 1:,}: the loss is not a finite number; {where}: lower lr (--set lr=...), or look at the images"
    )
