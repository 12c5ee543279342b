"""A diffusers pipeline from embeddings to images: U-Net, conditioner, scheduler, and an autoencoder where the U-Net works on latents.

Enters: (n, d) embeddings. Leaves: n images. Parts other than the conditioner are diffusers' own and open by themselves.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput, UNet2DConditionModel
from torch import Tensor

from regraft.concepts.decode.conditioner import EmbeddingConditioner
from regraft.errors import InputError
from regraft.progress import progress_bar


class EmbeddingToImagePipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers has no types
    """Draws images of embeddings.

    `scheduler` may be any of diffusers'. Guidance is ``e = e_null + s (e_cond - e_null)`` with s = `guidance_scale`: 1 is no guidance,
    and the null token is not run. Where a text writes ``(1 + w) e_cond - w e_null``, s = 1 + w.
    """

    model_cpu_offload_seq = "conditioner->unet->vae"
    _optional_components: ClassVar[list[str]] = ["vae"]

    def __init__(self, unet: UNet2DConditionModel, conditioner: EmbeddingConditioner, scheduler: Any, vae: Any = None) -> None:
        super().__init__()
        self.register_modules(unet=unet, conditioner=conditioner, scheduler=scheduler, vae=vae)

    @property
    def window(self) -> int:
        """Side of what the U-Net was trained on, in latents (or pixels where there is no autoencoder)."""
        return int(self.unet.config.sample_size)

    @property
    def factor(self) -> int:
        """Pixels a latent, along a side."""
        return 1 if self.vae is None else 2 ** (len(self.vae.config.block_out_channels) - 1)

    def checked(self, embeddings: Any) -> Tensor:
        """`embeddings` as (n, d) float32 on the pipeline's device. Raises `InputError`: another width, values that are not finite."""
        rows = torch.as_tensor(np.asarray(embeddings), dtype=torch.float32)
        wanted = self.conditioner.size
        if rows.ndim != 2 or not len(rows):
            raise InputError(f"embeddings of shape {tuple(rows.shape)}: needs (n, {wanted}), a row an image")
        if rows.shape[1] != wanted:
            levels = " + ".join(map(str, self.conditioner.config.levels))
            own = f" ({levels})" if "+" in levels else ""
            raise InputError(
                f"embeddings are {rows.shape[1]} wide: this model was trained on {wanted}{own}; use the encoder it was trained with"
            )
        if len(bad := (~rows.isfinite().all(1)).nonzero()):
            raise InputError(f"embeddings, row {int(bad[0])}: holds values that are not finite ({len(bad)} such rows): leave them out")
        return rows.to(self.device)

    @torch.no_grad()
    def __call__(
        self,
        embeddings: Any,
        *,
        num_inference_steps: int = 50,
        guidance_scale: float = 2.0,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        batch_size: int = 64,
        output_type: Literal["pil", "np", "pt"] = "pil",
    ) -> ImagePipelineOutput:
        """One image a row of `embeddings`; a zero row is drawn without condition.

        Parameters
        ----------
        eta : how much noise each step adds (DDIM: 0 none, 1 as much as was there), where the scheduler knows it.
        latents : (n, channels, side, side) noise to start with. output_type : "pt" is (n, channels, height, width) in [0, 1].
        """
        rows = self.checked(embeddings)
        shape = (len(rows), self.unet.config.in_channels, self.window, self.window)
        if latents is None:
            latents = torch.randn(shape, generator=generator)
        drawn = []
        steps = num_inference_steps * -(-len(rows) // batch_size)
        with progress_bar("drawing", steps, "steps") as bar:
            for start in range(0, len(rows), batch_size):
                part = slice(start, start + batch_size)
                found = self._denoised(rows[part], latents[part].to(rows.device), num_inference_steps, guidance_scale, eta, generator, bar)
                drawn.append(self.decoded(found).cpu())
        return ImagePipelineOutput(images=as_output(torch.cat(drawn), output_type))

    def _denoised(self, rows: Tensor, x: Tensor, steps: int, scale: float, eta: float, generator: Any, bar: Any) -> Tensor:
        self.scheduler.set_timesteps(steps)
        tokens, null = self.conditioner(rows), self.conditioner.null()
        x = x * self.scheduler.init_noise_sigma
        extra = {"eta": eta, "generator": generator} if isinstance(self.scheduler, DDIMScheduler) else {}
        for t in self.scheduler.timesteps:
            noise = self.predicted(self.scheduler.scale_model_input(x, t), t, tokens, null, scale)
            x = self.scheduler.step(noise, t, x, **extra).prev_sample
            bar.advance()
        return x

    def predicted(self, x: Tensor, t: Any, tokens: Tensor, null: Tensor, scale: float) -> Tensor:
        """Guided noise in `x` (b, c, h, w) at time `t`, given `tokens` (b, levels, width) and those of no embedding."""
        if scale == 1:
            own: Tensor = self.unet(x, t, tokens).sample
            return own
        without: Tensor = self.unet(x, t, null.expand_as(tokens)).sample
        return without if scale == 0 else without + scale * (self.unet(x, t, tokens).sample - without)

    def encoded(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents of `images` (n, c, h, w) in [-1, 1]: the images themselves where there is no autoencoder."""
        if self.vae is None:
            return images
        found = self.vae.encode(images)
        latents = found.latent_dist.sample(generator) if hasattr(found, "latent_dist") else found.latents
        whole: Tensor = (latents - _shift(self.vae)) * _scale(self.vae)
        return whole

    def decoded(self, latents: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] of latents."""
        if self.vae is not None:
            latents = self.vae.decode(latents / _scale(self.vae) + _shift(self.vae)).sample
        return (latents / 2 + 0.5).clamp(0, 1)


def _scale(vae: Any) -> float:
    return float(getattr(vae.config, "scaling_factor", None) or 1.0)


def _shift(vae: Any) -> float:
    return float(getattr(vae.config, "shift_factor", None) or 0.0)


def as_output(images: Tensor, output_type: str) -> Any:
    """(n, c, h, w) in [0, 1] as it is, as (n, h, w, c) array, or as a list of PIL images."""
    if output_type == "pt":
        return images
    arrays = images.permute(0, 2, 3, 1).float().numpy()
    if output_type == "np":
        return arrays
    from PIL import Image

    whole = (arrays * 255).round().astype(np.uint8)
    return [Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one) for one in whole]
