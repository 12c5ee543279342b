"""The second control: the same model with its learned embeddings under layers that have never learned."""

from typing import Any

import torch
from torch import nn

from regraft.language.hidden_states import backbone


def with_random_layers(model: Any, seed: int = 0) -> Any:
    """A model like `model` whose layers are as its own class starts them, everything around them (embeddings, last norm) as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(model.config)
    kept = f"{layers_name(model)}."
    learned = {name: value for name, value in model.state_dict().items() if not name.startswith(kept)}
    fresh.load_state_dict(learned, strict=False)
    reference = next(model.parameters())
    return fresh.to(device=reference.device, dtype=reference.dtype).eval()


def layers_name(model: Any) -> str:
    """The name of the list that holds the layers of the model's backbone: of all lists outside others the one with most parameters."""
    body = backbone(model)
    inside = set(body.modules())
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and module in inside]
    outer = [(name, one) for name, one in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    name: str = max(outer, key=lambda pair: sum(value.numel() for value in pair[1].parameters()))[0]
    return name
