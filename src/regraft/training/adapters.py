"""LoRA adapters through peft, on every linear layer and, if wanted, on embedding and head: put on, merged, taken off, saved.

Enters: a model, whose linear layers may be held in NF4. Leaves: `Adapters`, which alone are trained, and in the end the model in its
ordinary shape. Adapters are always merged into the full-precision weights, never into the quantized ones. They were trained beside the
quantized ones, so the merged model differs from the trained one by what quantization had taken off: ``W - dequantized(W)`` in each layer.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from regraft.errors import ParameterError
from regraft.graft.factors import FactorisedHead, is_factorised
from regraft.language.tables import head_of, is_tied
from regraft.training.quantized import Quantization, is_linear


@dataclass(frozen=True)
class LoraOptions:
    """Rank `r`, `alpha` (the update is scaled by alpha / r), `dropout`; `tables`: adapt embedding and head too instead of training them."""

    r: int = 8
    alpha: float = 32
    dropout: float = 0.05
    tables: bool = False


@dataclass(frozen=True)
class SavedAdapters:
    """Trained adapters apart from their model: `tensors` by peft's names, `config` a `peft.LoraConfig`."""

    config: Any = field(repr=False)
    tensors: dict[str, torch.Tensor] = field(repr=False)

    def save(self, directory: Path) -> None:
        """Write `directory` as peft does: ``PeftModel.from_pretrained(model, directory)`` puts the adapters on the model they belong to."""
        directory.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(directory)
        save_file(self.tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})


class Adapters:
    r"""Rank-r adapters: :math:`y = Wx + (\alpha / r) B A x` on linear layers, :math:`E_t + (\alpha / r) B A_{:,t}` on the embedding.

    A of a linear layer starts as a Kaiming-uniform draw and B at zero; of the embedding A starts at zero and B as a standard normal draw.
    So nothing changes before the first step.
    """

    def __init__(self, model: Any, options: LoraOptions, quantization: Quantization | None = None) -> None:
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise ParameterError("parameters='lora' needs peft: pip install 'regraft[train]'") from None
        check_tables(model, options)
        tables = [model.get_input_embeddings(), head_of(model)]
        chosen = [n for n, m in model.named_modules() if (is_linear(m) and m not in tables) or (options.tables and m in tables)]
        config = LoraConfig(
            r=options.r,
            lora_alpha=options.alpha,  # type: ignore[arg-type]  # only ever divided
            lora_dropout=options.dropout,
            target_modules=chosen,
            bias="none",
        )
        self.quantization = quantization
        self.model = get_peft_model(model, config)
        self.parameters = {n: p for n, p in model.named_parameters() if "lora_" in n}

    def merge(self) -> None:
        """Add the updates to the full-precision weights; the adapters are still there, and idle."""
        if self.quantization is not None:
            self.quantization.suspend()
        self.model.merge_adapter()

    def unmerge(self) -> None:
        """Undo `merge`, up to the rounding of its sums; weights that are held in NF4 come back as they were."""
        self.model.unmerge_adapter()  # type: ignore[no-untyped-call]
        if self.quantization is not None:
            self.quantization.resume()

    def saved(self) -> SavedAdapters:
        """A copy of the adapters as they are now."""
        from peft import get_peft_model_state_dict

        found = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        config = self.model.peft_config["default"]
        config.inference_mode = True
        return SavedAdapters(config, {n: t.detach().cpu().clone().contiguous() for n, t in found.items()})

    def remove(self) -> None:
        """Merge, and leave an ordinary model without adapters, in full precision."""
        if self.quantization is not None:
            self.quantization.suspend()
        self.model.merge_and_unload()
        if self.quantization is not None:
            self.quantization.close()


def tied(model: Any) -> bool:
    """Whether the head uses the input table."""
    return is_tied(model)


def check_tables(model: Any, options: LoraOptions) -> None:
    """Raise `ParameterError` if adapters are wanted on tables that are one, or factors."""
    if options.tables and is_factorised(model):
        raise ParameterError("LoRA on factorised tables: they are of low rank already: train the factors themselves (lora_tables=False)")
    if options.tables and tied(model):
        raise ParameterError(
            "LoRA on a tied embedding and head would merge into two different tables: part them first (untie=true), "
            "or train the tables themselves (lora_tables=false)"
        )


def untie(model: Any) -> None:
    """Give the head a table of its own, equal to the input table; the model's config says so."""
    if not tied(model):
        return
    head = head_of(model)
    if head is None:
        raise ParameterError(f"{type(model).__name__} computes its logits from the input table itself: it has no head to part from it")
    head.weight = nn.Parameter(head.weight.detach().clone())
    if isinstance(head, FactorisedHead):
        head.part()
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
