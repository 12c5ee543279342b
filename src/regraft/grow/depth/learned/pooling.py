"""The order of final norm and average over tokens, in vision models that classify by the average."""

from typing import Any

from torch import nn


def average_first(model: Any) -> Any:
    """Let `model`, a classifier by the average of normed tokens, average first and norm then (timm's ``fc_norm``). In place; returned.

    Models that classify by one token are left as they are: there the order makes no difference. So are those without a class head.
    """
    backbone: Any = getattr(model, model.base_model_prefix, None)
    norm = getattr(backbone, "layernorm", None)
    head = getattr(model, "classifier", None)
    if not isinstance(norm, nn.Module) or not isinstance(head, nn.Module) or not _averages(model):
        return model
    backbone.layernorm = nn.Identity()
    model.classifier = nn.Sequential(norm, head)
    return model


def _averages(model: Any) -> bool:
    """Whether its class reads the plain mean over all tokens: I-JEPA's does, and has no class token."""
    return str(model.config.model_type) == "ijepa"
