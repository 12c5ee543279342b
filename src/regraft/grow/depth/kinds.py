"""What kind of tensor of a layer a name stands for."""

from typing import Literal

Kind = Literal["attn", "mlp", "norm"]


def kind_of(name: str, dimensions: int) -> Kind:
    """Of a tensor `name` within a layer, as `transformers` calls it: a norm, part of attention, or part of the feed-forward half."""
    lower = name.lower()
    parts = lower.split(".")
    if dimensions <= 1 and any("norm" in part or part.startswith("ln") for part in parts):
        return "norm"
    return "attn" if any("attn" in part or "attention" in part for part in parts) else "mlp"
