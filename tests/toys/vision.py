"""Tiny vision models: by a class token (ViT), and by the mean of tokens (I-JEPA)."""

import torch
from transformers import IJepaConfig, IJepaForImageClassification, ViTConfig, ViTForImageClassification

SHAPE = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 8, "patch_size": 4, "num_channels": 1,
         "num_labels": 5, "initializer_range": 0.2}  # fmt: skip


def vit(layers: int = 4, seed: int = 0) -> ViTForImageClassification:
    torch.manual_seed(seed)
    return ViTForImageClassification(ViTConfig(num_hidden_layers=layers, **SHAPE)).eval()


def ijepa(layers: int = 4, seed: int = 0) -> IJepaForImageClassification:
    torch.manual_seed(seed)
    return IJepaForImageClassification(IJepaConfig(num_hidden_layers=layers, **SHAPE)).eval()


def pictures(count: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
