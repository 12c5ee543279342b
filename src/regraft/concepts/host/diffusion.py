"""The loss of a pipeline's U-Net on images, as it was trained: noise, velocity, or the image itself."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import mse_loss

from regraft.concepts.host.pipeline import Conditioning


@dataclass(frozen=True)
class Batch:
    """Images at a moment of noise. `latents`, `noise`, `noisy` (n, channels, h, w); `t` (n,) times; `rows` (n,) which images they are."""

    latents: torch.Tensor
    noise: torch.Tensor
    noisy: torch.Tensor
    t: torch.Tensor
    rows: torch.Tensor


class Diffusion:
    """Images of a concept in a pipeline's latent space, encoded once: every step draws from their distributions.

    Parameters
    ----------
    images : (n, 3, h, w) in [-1, 1]. flip : how often a drawn image is mirrored.
    """

    def __init__(self, pipeline: Any, images: torch.Tensor, *, flip: float = 0.0) -> None:
        from diffusers import DDPMScheduler

        self.pipeline, self.flip = pipeline, flip
        self.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.moments = [self._encoded(images), self._encoded(images.flip(-1)) if flip else None]
        self.size = tuple(images.shape[-2:])

    @torch.no_grad()
    def _encoded(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vae = self.pipeline.vae
        parts = [vae.encode(part.to(vae.device, vae.dtype)).latent_dist for part in torch.split(images, 8)]
        return torch.cat([part.mean for part in parts]).float(), torch.cat([part.std for part in parts]).float()

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` images, drawn one after another in a new order, at times of their own."""
        count = len(self.moments[0][0])  # type: ignore[index]
        order = torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-size // count))])[:size]
        flips = torch.rand(size, generator=generator) < self.flip
        t = torch.randint(self.scheduler.config.num_train_timesteps, (size,), generator=generator)
        return self.at(order, flips, t, generator)

    def at(self, rows: torch.Tensor, flips: torch.Tensor, t: torch.Tensor, generator: torch.Generator) -> Batch:
        """Images `rows` at times `t`, with noise from `generator`."""
        (mean, std), other = self.moments[0], self.moments[1]  # type: ignore[misc]
        mean, std = mean[rows], std[rows]
        if other is not None and bool(flips.any()):
            turned = flips.to(mean.device)[:, None, None, None]
            mean, std = torch.where(turned, other[0][rows], mean), torch.where(turned, other[1][rows], std)
        config = self.pipeline.vae.config
        drawn = mean + std * torch.randn(mean.shape, generator=generator).to(mean)
        latents = (drawn - (getattr(config, "shift_factor", None) or 0)) * config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        t = t.to(latents.device)
        return Batch(latents, noise, self.scheduler.add_noise(latents, noise, t), t, rows)

    def grid(self, times: int, seed: int = 0) -> list[Batch]:
        """Every image at `times` times, evenly spread, with noise that is always the same: to measure, not to learn."""
        generator = torch.Generator().manual_seed(seed)
        count, last = len(self.moments[0][0]), self.scheduler.config.num_train_timesteps  # type: ignore[index]
        spread = ((torch.arange(times) + 0.5) * last / times).long()
        rows = torch.arange(count)
        return [self.at(rows, torch.zeros(count, dtype=torch.bool), one.expand(count), generator) for one in spread]

    def predict(self, batch: Batch, context: Conditioning) -> torch.Tensor:
        """What the U-Net says of a batch, in its own precision."""
        unet = self.pipeline.unet
        given = context.embeds.to(unet.dtype)
        return unet(batch.noisy.to(unet.dtype), batch.t, given, added_cond_kwargs=self._added(context)).sample.float()  # type: ignore[no-any-return]

    def losses(self, batch: Batch, context: Conditioning) -> torch.Tensor:
        """Mean squared error of each image of the batch (n,)."""
        return mse_loss(self.predict(batch, context), self.target(batch), reduction="none").flatten(1).mean(1)

    def target(self, batch: Batch) -> torch.Tensor:
        """What the U-Net should say."""
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":
            return self.scheduler.get_velocity(batch.latents, batch.noise, batch.t)  # type: ignore[no-any-return]
        return batch.noise if kind == "epsilon" else batch.latents

    def _added(self, context: Conditioning) -> dict[str, torch.Tensor] | None:
        """What XL reads beside the prompt: its pooled vector, and sizes without a crop."""
        if context.pooled is None:
            return None
        times = torch.tensor([*self.size, 0, 0, *self.size], dtype=context.embeds.dtype, device=context.embeds.device)
        return {"text_embeds": context.pooled.to(self.pipeline.unet.dtype), "time_ids": times.expand(len(context.embeds), -1)}
