"""Pooling over what a `Decoder` says is to be pooled: the mean, or the state of EOS."""

from typing import Any, Literal

import torch
from sentence_transformers.base.modules.module import Module


def masked_mean(states: torch.Tensor, features: dict[str, Any]) -> torch.Tensor:
    """Mean of `states` (B, T, d) over the pooled tokens; the last state where none is, as in a text that is all instruction."""
    mask = pooling_mask(features).to(states)[..., None]
    count = mask.sum(1)
    return torch.where(count > 0, (states * mask).sum(1) / count.clamp(min=1), last_state(states, features["attention_mask"]))


def last_state(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """State (B, d) of the last token that is no padding."""
    places = torch.arange(states.shape[1], device=states.device) * attention_mask.bool()
    return states[torch.arange(len(states), device=states.device), places.argmax(1)]


def pooling_mask(features: dict[str, Any]) -> torch.Tensor:
    """(B, T), 1 where a token is pooled: what `Decoder` wrote, else all tokens but those of a prompt."""
    if "pooling_mask" in features:
        found: torch.Tensor = features["pooling_mask"]
        return found
    mask: torch.Tensor = features["attention_mask"]
    prompt = features.get("prompt_length")
    if prompt is None:
        return mask
    drop = int(prompt[0]) if isinstance(prompt, torch.Tensor) else int(prompt)
    return mask * (mask.cumsum(1) > drop)


class MaskedPooling(Module):
    """`mode` "mean" or "eos" over the pooled tokens. Returns (B, d)."""

    config_keys = ["dimension", "mode"]  # noqa: RUF012  # as the library declares it

    def __init__(self, dimension: int, mode: Literal["mean", "eos"] = "mean") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # theirs
        self.dimension, self.mode = dimension, mode

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        states = features["token_embeddings"].float()
        pooled = masked_mean(states, features) if self.mode == "mean" else last_state(states, features["attention_mask"])
        return features | {"sentence_embedding": pooled}

    def get_embedding_dimension(self) -> int:
        return self.dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
