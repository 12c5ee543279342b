"""Where a U-Net looks at each place of its prompt: the probabilities of its cross-attention layers, with their gradient.

Fused attention gives none, so the layers compute them by an explicit softmax while they are recorded, and are as before afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

Maps = dict[str, torch.Tensor]
SILENT = {"AttnProcessor2_0", "FusedAttnProcessor2_0", "XFormersAttnProcessor", "SlicedAttnProcessor"}  # do not show whole probabilities


@contextmanager
def recorded(unet: Any, keep: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Iterator[Maps]:
    """Probabilities of the latest pass, by layer: (n, heads, pixels, places), summing to 1 over places; or what `keep` makes of them.

    Stock processors that do not show probabilities (`SILENT`) are replaced meanwhile; one that a concept has put in is used as it is.
    """
    maps: Maps = {}
    with ExitStack() as stack:
        for name, layer in cross_attention(unet).items():
            stack.enter_context(_listening(layer, name, maps, keep))
        yield maps


def cross_attention(unet: Any) -> dict[str, Any]:
    """Its layers that look at the prompt, by name."""
    from diffusers.models.attention_processor import Attention

    return {name: part for name, part in unet.named_modules() if isinstance(part, Attention) and part.is_cross_attention}


@contextmanager
def _listening(layer: Any, name: str, maps: Maps, keep: Callable[[torch.Tensor], torch.Tensor] | None) -> Iterator[None]:
    """`layer` with its scores taken down; every explicit processor of diffusers asks the layer for them."""
    from diffusers.models.attention_processor import AttnProcessor

    scores, before = layer.get_attention_scores, layer.processor

    def told(*args: Any, **kwargs: Any) -> torch.Tensor:
        found: torch.Tensor = scores(*args, **kwargs)
        shown = found.view(-1, layer.heads, *found.shape[1:])
        maps[name] = shown if keep is None else keep(shown)
        return found

    layer.get_attention_scores = told
    if type(before).__name__ in SILENT:
        layer.set_processor(AttnProcessor())
    try:
        yield
    finally:
        del layer.get_attention_scores
        layer.set_processor(before)
