"""How far a grown model's outputs are from the old one's, on random input."""

from dataclasses import dataclass
from typing import Any

import torch

from regraft.checkpoint import Checkpoint
from regraft.grow.grower import Context
from regraft.grow.width.maps import Plan
from regraft.language.loading import load_model, quiet

TEXTS, LENGTH = 2, 24


@dataclass(frozen=True)
class Difference:
    """`largest` absolute difference of an output; `relative`: root mean square of the differences by that of the old outputs."""

    largest: float
    relative: float


def difference(before: Checkpoint, after: Checkpoint, plan: Plan, context: Context) -> Difference:
    """Outputs of both models, one loaded after the other. Hidden states of a model without a head are compared in its copies of them."""
    old = outputs(before, context)
    new = outputs(after, context)
    if old.shape != new.shape:  # hidden states: the old ones as the new width has them
        write = plan.on("hidden", None).write
        old = write.apply(old.reshape(-1, old.shape[-1]).T.contiguous()).T.reshape(new.shape)
    apart = (new - old).double()
    return Difference(float(apart.abs().max()), float(apart.square().mean().sqrt() / old.double().square().mean().sqrt()))


@torch.no_grad()
def outputs(checkpoint: Checkpoint, context: Context) -> torch.Tensor:
    """Logits, or hidden states where there is no head, of `TEXTS` random inputs in float32."""
    with quiet():
        model = load_model(checkpoint, context.dtype, context.device)
    generator = torch.Generator().manual_seed(0)
    config: Any = model.config
    if hasattr(config, "image_size"):
        sides = config.image_size if isinstance(config.image_size, list | tuple) else [config.image_size] * 2
        pixels = torch.randn(TEXTS, config.num_channels, *sides, generator=generator)
        found = model(pixel_values=pixels.to(model.device, model.dtype))
    else:
        ids = torch.randint(config.vocab_size, (TEXTS, LENGTH), generator=generator).to(model.device)
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    output: torch.Tensor = found.logits if getattr(found, "logits", None) is not None else found[0]
    return output.float().cpu()
