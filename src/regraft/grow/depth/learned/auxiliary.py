"""The auxiliary network: a model of L layers that are not stored, but computed from the G layers of a gene whenever they run.

Enters: a live model of G layers (the gene), and a plan, weights (L, G). Leaves: a live model of L layers of the same class. Its parameters
are the gene's own, so that training it trains the gene, gradients of all layers add up in it, and an optimizer's state is that of G layers.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.checkpoint.architecture import Architecture, load_config
from regraft.checkpoint.files import dump
from regraft.errors import CheckpointError
from regraft.grow.depth.plan import Plan
from regraft.grow.depth.stack import WRITER, LayerStack


def auxiliary(gene: Any, stack: LayerStack, plan: Plan) -> Any:
    r"""A model of ``plan.depth`` layers, layer i being :math:`\sum_g W_{ig} \theta_g`, computed when it runs and dropped behind it.

    `gene` is the live model whose checkpoint `stack` describes. All that lies outside the layers is shared with it. A layer whose row is
    one weight of 1 uses the gene's tensors themselves. The model can be run, trained and generated with, not saved: save the gene.
    """
    model = _built(gene, stack, plan)
    layers = model.get_submodule(stack.prefix)
    for name, parameter in _outside(gene.named_parameters(remove_duplicate=False), stack):
        owner, leaf = _place(model, name)
        owner._parameters[leaf] = parameter
    for name, buffer in _outside(gene.named_buffers(remove_duplicate=False), stack):
        owner, leaf = _place(model, name)
        owner._buffers[leaf] = buffer
    learned = [dict(layer.named_parameters()) for layer in gene.get_submodule(stack.prefix)]
    buffers = [dict(layer.named_buffers()) for layer in gene.get_submodule(stack.prefix)]
    for number, layer in enumerate(layers):
        for name in learned[0]:
            owner, leaf = _place(layer, name)
            del owner._parameters[leaf]
        for name, buffer in buffers[plan.sources[number]].items():
            owner, leaf = _place(layer, name)
            owner._buffers[leaf] = buffer
        layer.register_forward_pre_hook(partial(_fill, learned, plan.row(number)))
        layer.register_forward_hook(partial(_empty, learned[0]), always_call=True)
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters()) | dict(model.named_buffers())
    left = [key for key, one in tensors.items() if one.is_meta]
    if left:
        raise CheckpointError(f"{stack.checkpoint.path}: {left[0]} is not in the gene: its layers cannot be computed from others")
    return model.eval()


def _built(gene: Any, stack: LayerStack, plan: Plan) -> Any:
    """The architecture at the plan's depth, on the meta device."""
    config = stack.config(plan.sources)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        (Path(folder) / "config.json").write_bytes(dump(config))
        model_config = load_config(Path(folder), config)
    model_config._attn_implementation = gene.config._attn_implementation
    return Architecture(stack.checkpoint.path, config, model_config).model


def _outside(named: Iterable[tuple[str, Any]], stack: LayerStack) -> list[tuple[str, Any]]:
    return [(name, tensor) for name, tensor in named if not name.startswith(f"{stack.prefix}.")]


def _place(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module below `module` that holds the tensor `name`, and what it calls it."""
    owner, _, leaf = name.rpartition(".")
    return module.get_submodule(owner), leaf


def _fill(learned: list[dict[str, nn.Parameter]], row: Mapping[int, float], layer: nn.Module, _: Any) -> None:
    """Give `layer` its tensors: the weighted sum of the gene's."""
    for name in learned[0]:
        owner, leaf = _place(layer, name)
        owner.__dict__[leaf] = mixed([one[name] for one in learned], row)


def mixed(tensors: Sequence[torch.Tensor], row: Mapping[int, float]) -> torch.Tensor:
    r""":math:`\sum_g w_g \theta_g`; the tensor itself where the row is a single 1."""
    if list(row.values()) == [1.0]:
        return tensors[next(iter(row))]
    return torch.stack([tensors[g] * weight for g, weight in row.items()]).sum(0)


def _empty(names: Mapping[str, Any], layer: nn.Module, *_: Any) -> None:
    for name in names:
        owner, leaf = _place(layer, name)
        owner.__dict__.pop(leaf, None)


def drop_paths(model: Any, stack: LayerStack, rate: float) -> None:
    """Stochastic depth on what each layer of `model` adds to the residual stream, drawn for each application and each sample.

    Rates rise linearly over the layers, from 0 at the first to `rate` at the last. Nothing is dropped in evaluation mode.
    """
    layers = model.get_submodule(stack.prefix)
    for number, layer in enumerate(layers):
        share = rate * number / max(len(layers) - 1, 1)
        found = [module for name, module in layer.named_modules() if WRITER.fullmatch(name)]
        if not found:
            raise CheckpointError(
                f"{stack.checkpoint.path}: what its layers add to the residual stream is not known, so nothing of it can be dropped: "
                "set drop_path=0"
            )
        for module in found:
            module.register_forward_hook(partial(_drop, share))


def _drop(share: float, module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    if not module.training or not share:
        return output
    kept = torch.rand(len(output), *[1] * (output.ndim - 1), device=output.device) >= share
    return output * kept / (1 - share)
