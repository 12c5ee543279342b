"""ELMo's scalar mix of layers, as a module that learns."""

from typing import Any

import torch
from sentence_transformers.base.modules import Module
from torch import nn
from torch.nn import functional

from regraft.text.modules.around import Features


class ScalarMix(Module):
    """`all_layer_embeddings`, `count` times (B, T, d) -> `token_embeddings` (B, T, d): gamma * sum of softmax(s)_j h_j."""

    config_keys: list[str] = ["count", "layer_norm"]  # noqa: RUF012  # as the library declares it

    def __init__(self, count: int, layer_norm: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count, self.layer_norm = count, layer_norm
        self.s = nn.Parameter(torch.zeros(count))
        self.gamma = nn.Parameter(torch.ones(()))

    def forward(self, features: Features, **kwargs: Any) -> Features:
        states = torch.stack(list(features["all_layer_embeddings"]))
        if self.layer_norm:
            states = functional.layer_norm(states, states.shape[-1:])
        mixed = torch.einsum("j,jbtd->btd", self.s.softmax(0).to(states), states) * self.gamma.to(states)
        return features | {"token_embeddings": mixed}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> "ScalarMix":  # type: ignore[override]  # the library's are looser
        mix = cls(**cls.load_config(model_name_or_path, subfolder=subfolder, local_files_only=True))
        cls.load_torch_weights(model_name_or_path, subfolder=subfolder, local_files_only=True, model=mix)
        return mix
