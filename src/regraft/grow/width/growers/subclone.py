"""Weight subcloning across: the units that matter most, and what is read from them louder."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge

from regraft.corpus.sampling import sample_texts
from regraft.errors import CorpusError, ParameterError
from regraft.graft import Graft
from regraft.grow.grower import Context
from regraft.grow.width.axes import Axes, Width
from regraft.grow.width.duplicates import heads_of
from regraft.grow.width.grower import WidthGrower
from regraft.grow.width.maps import Maps, Plan, scaled
from regraft.method import Paper

Floats = npt.NDArray[np.float64]


class Subclone(WidthGrower):
    r"""Keeps the units with the largest activations (the width part of weight subcloning).

    The importance of a unit is the mean of :math:`|x|` over tokens of the corpus: of the residual stream over the inputs of all layers,
    so that every layer keeps the same ones; of neurons for each layer by what its second matrix reads; of heads, whole groups of them,
    by what the output projection reads. Kept units stay in their order.

    Parameters
    ----------
    tokens : of the corpus, that activations are measured on. length : tokens of a text at most.
    scaling : what is read from n of d kept units is multiplied by :math:`\sqrt{d/n}` ("sqrt": a sum of n independent terms
        gets the spread that one of d had), by d/n ("linear"), or by 1 ("none"). Which one the paper means could not be seen (ours).

    Raises `ParameterError` for more units than there are, or a width that heads and groups do not allow.
    """

    paper = Paper(
        "Weight subcloning: direct initialization of transformers using larger pretrained ones", "Samragh et al.", 2023, arxiv="2312.09299"
    )
    summary = "the units with the largest activations, and what is read from them louder"
    needs = ("corpus",)

    tokens: Annotated[int, Ge(1)] = 4096
    length: Annotated[int, Ge(1)] = 256
    scaling: Literal["sqrt", "linear", "none"] = "sqrt"

    def plan(self, axes: Axes, width: Width, context: Context) -> Plan:
        for axis, asked in (("hidden", "--hidden"), ("ffn", "--ffn")):
            before, after = getattr(axes.width, axis), getattr(width, axis)
            if after > before:
                raise ParameterError(
                    f"subclone: {asked} {after}: it only leaves out, and the model has {before}: choose net2net or bert2bert"
                )
        found = importance(axes, context, self.tokens, self.length)
        maps: dict[Any, Any] = {"hidden": self._kept(found["hidden"][0], width.hidden), "ffn": [], "heads": [], "groups": []}
        for neurons, heads in zip(found["ffn"], found["heads"], strict=True):
            maps["ffn"].append(self._kept(neurons, width.ffn))
            groups = heads.reshape(axes.width.groups, -1).mean(1)
            for axis, one in heads_of(axes.width, self._kept(groups, width.groups)).items():
                maps[axis].append(one)
        why = f"{axes.width.hidden - width.hidden} units of the residual stream are left out"
        return Plan(width, maps, exact=width == axes.width, why=why)

    def _kept(self, importance: Floats, count: int) -> Maps:
        old = len(importance)
        ids = np.sort(np.argsort(-importance, kind="stable")[:count]).astype(np.int64)
        write = Graft.copy_of(ids, old)
        loud = {"sqrt": np.sqrt(old / count), "linear": old / count, "none": 1.0}[self.scaling]
        return Maps(write, scaled(write, loud))


@torch.no_grad()
def importance(axes: Axes, context: Context, tokens: int, length: int) -> dict[str, list[Floats]]:
    """Mean magnitudes of units: "hidden" once, "ffn" and "heads" a layer, over `tokens` tokens of the corpus."""
    model, tokenizer = context.live(axes.checkpoint)
    readers = _readers(axes, model)
    sums: dict[str, list[torch.Tensor]] = {axis: [] for axis in ("hidden", "ffn", "heads")}
    for axis, modules in readers.items():
        size = {"hidden": axes.width.hidden, "ffn": axes.width.ffn}.get(axis, axes.width.size("heads"))
        sums[axis] = [torch.zeros(size, dtype=torch.float64) for _ in modules]
    hooks = [
        module.register_forward_pre_hook(_adding(sums[axis][number]))
        for axis, modules in readers.items()
        for number, module in enumerate(modules)
    ]
    seen = 0
    for text in sample_texts(context.texts("subclone"), tokens * 8):
        ids = tokenizer(text, truncation=True, max_length=min(length, max(1, tokens - seen)))["input_ids"]
        if not ids:
            continue
        model(input_ids=torch.tensor([ids], device=model.device))
        seen += len(ids)
        if seen >= tokens:
            break
    for hook in hooks:
        hook.remove()
    if not seen:
        raise CorpusError("subclone: the corpus holds no token to measure units by: give more text")
    found = {axis: [one.numpy() / seen for one in each] for axis, each in sums.items()}
    found["hidden"] = [np.mean(found["hidden"], axis=0)]
    return found


def _readers(axes: Axes, model: Any) -> dict[str, list[Any]]:
    """Modules of each layer that read neurons and heads; and what follows on the residual stream: all that read it first in a layer."""
    modules = dict(model.named_modules())
    found: dict[str, dict[int, Any]] = {"ffn": {}, "heads": {}, "hidden": {}}
    for stored, places in axes.places.items():
        name, layer = axes.called[stored].rpartition(".")[0], axes.layer(stored)
        if layer is None:
            continue
        for place in places:
            if place is not None and place.side == "read" and place.axes[0] in ("ffn", "heads"):
                found[place.axes[0]][layer] = modules[name]
    prefix = next(axes.called[stored] for stored in axes.called if axes.layer(stored) == 0).partition(".0.")[0]
    found["hidden"] = dict(enumerate(modules[prefix]))
    return {axis: [each[layer] for layer in sorted(each)] for axis, each in found.items()}


def _adding(total: torch.Tensor) -> Any:
    def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        total.add_(inputs[0].detach().abs().double().reshape(-1, total.shape[0]).sum(0).cpu())

    return hook
