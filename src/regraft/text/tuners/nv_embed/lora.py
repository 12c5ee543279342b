"""LoRA on a transformer, by peft, put into the model itself: its class stays, and a model without adapters is left in the end."""

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from regraft.errors import ParameterError


def put_on(model: Any, *, r: int, alpha: float, dropout: float) -> None:
    """Adapters on every linear layer of `model`, a transformer without heads; all else is frozen."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ParameterError("nv-embed: trains=lora needs peft: pip install 'regraft[train]'") from None
    linear = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=linear, bias="none")  # type: ignore[arg-type]  # only ever divided
    model.requires_grad_(False)
    inject_adapter_in_model(config, model)


def merge(model: Any) -> None:
    """Add the adapters to the weights and take them off: an ordinary model again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
