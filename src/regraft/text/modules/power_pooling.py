"""Generalised means of token states."""

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor

from regraft.text.modules.around import Features


class PowerPooling(Module):
    """(B, T, d) -> (B, d * powers): odd powers, "min" and "max", over the tokens of the mask."""

    config_keys: list[str] = ["width", "powers"]  # noqa: RUF012  # as the library declares it

    def __init__(self, width: int, powers: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.width, self.powers = width, list(powers)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        states, mask = features["token_embeddings"], features["attention_mask"].bool().unsqueeze(-1)
        return features | {"sentence_embedding": torch.cat([_mean(states, mask, power) for power in self.powers], dim=-1)}

    def get_embedding_dimension(self) -> int:
        return self.width * len(self.powers)

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        self.save_config(output_path)


def _mean(states: Tensor, mask: Tensor, power: str) -> Tensor:
    if power in ("min", "max"):
        found = states.masked_fill(~mask, -torch.inf if power == "max" else torch.inf)
        return found.amax(1) if power == "max" else found.amin(1)
    mean = (states ** int(power) * mask).sum(1) / mask.sum(1).clamp(min=1)
    return mean.abs() ** (1 / int(power)) * mean.sign()
