"""Where a U-Net looks at each word of a prompt, before and after the prompt was steered."""

from typing import Any

import torch
from torch.nn.functional import interpolate

from regraft.concepts.host.attention import Maps, recorded
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.pipeline import Conditioning

TIMES = 3  # moments of noise that are averaged


@torch.no_grad()
def attention_maps(pipeline: Any, images: torch.Tensor, context: Conditioning, times: int = TIMES) -> torch.Tensor:
    """How much each place of the image looks at each row of the prompt, (n, places, h, w), the mean over layers, heads and noise.

    `images` (n, 3, h, w) in [-1, 1], one for each prompt of `context`; the noise is always the same, so that maps of one image by two
    conditionings may be set beside each other. At each place of the image the maps sum to 1. h, w are those of the widest layer.
    """
    diffusion = Diffusion(pipeline, images)
    found = []
    with recorded(pipeline.unet) as maps:
        for batch in diffusion.grid(times):
            diffusion.predict(batch, context)
            found.append(_joined(maps, batch.latents.shape[-2] / batch.latents.shape[-1]))
    return torch.stack(found).mean(0)


def _joined(maps: Maps, ratio: float) -> torch.Tensor:
    """Maps of all layers, heads averaged, at the size of the widest."""
    each = []
    for one in maps.values():
        mean = one.float().mean(1)
        width = round((mean.shape[1] / ratio) ** 0.5)
        each.append(mean.transpose(1, 2).reshape(len(mean), mean.shape[2], -1, width))
    widest = max((one.shape[-2:] for one in each), key=lambda size: size[0] * size[1])
    return torch.stack([interpolate(one, size=widest, mode="bilinear") for one in each]).mean(0)
