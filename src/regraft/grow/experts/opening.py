"""From directories and models to models that route: `load`, `to_emoe`, `to_dense`; and `Compared`, all of that for a comparison."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.grow.experts import convert
from regraft.grow.experts.block import Mode
from regraft.grow.experts.convert import with_top_k
from regraft.grow.experts.grower import Dense, ExpertGrower
from regraft.grow.experts.live import Installed, install, installed, remove
from regraft.grow.experts.split import FILE, read_split
from regraft.grow.grower import Context, Grown
from regraft.language.loading import load_model, quiet


def load(
    directory: str | Path,
    *,
    mode: Mode = "masked",
    top_k: int | None = None,
    model: nn.Module | None = None,
    dtype: str = "auto",
    device: str = "cpu",
) -> Any:
    """The model of a directory that `regraft grow experts` wrote, or that a trainer saved, with its experts installed.

    Parameters
    ----------
    mode : "masked" for training, "grouped" for speed, "dense" for none. top_k : another number of experts a token than was written.
    model : already opened from `directory`, such as by ``AutoModelForSequenceClassification``: it is used, and given back.

    Raises `CheckpointError` without a split, `ParameterError` for a mode that the architecture cannot take.
    """
    checkpoint = Checkpoint.open(directory)
    split = with_top_k(read_split(checkpoint.path, checkpoint.config), top_k)
    with quiet():
        opened = load_model(checkpoint, dtype, device) if model is None else model
    found = install(opened, split, mode)
    _fill(opened, found, checkpoint)
    return opened


def _fill(model: nn.Module, found: Installed, checkpoint: Checkpoint) -> None:
    """Values of the parameters that `install` added, from the files."""
    marks = (".expert_router.", ".expert_copies.")
    own = {name: parameter for name, parameter in model.named_parameters() if any(mark in name for mark in marks)}
    for name, parameter in own.items():
        stored = [known for known in checkpoint.tensors if known == name or known.endswith(f".{name}") or name.endswith(f".{known}")]
        if len(stored) == 1:
            with torch.no_grad():
                parameter.copy_(checkpoint.read(stored[0]))


def to_emoe(model: nn.Module, method: ExpertGrower, mode: Mode = "masked") -> Installed:
    """Let a live model route by `method`: neurons of the chosen layers are put in the order of their experts, in place, and masks
    installed.

    Start optimizers afterwards: their state would keep the old order. Raises `ParameterError` for a `method` that makes another model.
    """
    known = dict(model.named_parameters())
    grown = method.grow(Dense(model, lambda name: known[_weight(known, name)].detach()))
    if grown.split is None:
        raise ParameterError(f"{method.name} with these settings makes another architecture: use `regraft grow experts`")
    with torch.no_grad():
        for name, value in grown.changed.items():
            known[_weight(known, name)].copy_(value)
        found = install(model, grown.split, mode)
        for name, value in grown.added.items():
            model.get_parameter(name).copy_(value)
    return found


def to_dense(model: nn.Module) -> None:
    """Take masks and routers out of a live model and put its neurons back where they were. Raises `ParameterError` where nothing is in
    it.
    """
    found = installed(model)
    if found is None:
        raise ParameterError(f"{type(model).__name__}: no experts are installed in it")
    known = dict(model.named_parameters())
    with torch.no_grad():
        for layer, block in zip(found.split.layers, found.blocks.values(), strict=True):
            if layer.order is not None:
                back = torch.tensor(layer.order).argsort()
                for name, dim in block.ffn.neuron_dims():
                    parameter = known[_weight(known, name)]
                    parameter.copy_(parameter.index_select(dim, back.to(parameter.device)))
    remove(model)


def _weight(known: Any, name: str) -> str:
    """The parameter `name`, also below an adapter."""
    if name in known:
        return name
    above, _, last = name.rpartition(".")
    return f"{above}.base_layer.{last}"


@dataclass(frozen=True)
class Compared:
    """`grower` with what `regraft.grow.compare` asks of every way to another size. Size is how many experts a layer has."""

    grower: ExpertGrower

    @property
    def name(self) -> str:
        return self.grower.name

    def check(self, source: Checkpoint, size: int, out: Path, context: Context) -> None:
        """Whether the experts divide a layer is said by each method, in its row."""

    def said(self, size: int) -> str:
        return f"{size} experts, of which a token takes {self.grower.top_k}"

    def grow(self, source: Checkpoint, size: int, out: Path, context: Context) -> Grown:
        figures = convert.grow(source.path, method=self.grower, out=out)
        context.notes.extend(figures["notes"])
        return Grown(out, facts=figures)

    def open(self, grown: Path, context: Context) -> Any:
        """The model as it is used: tokens go to their experts alone."""
        if (grown / FILE).is_file():
            return load(grown, dtype=context.dtype, device=context.device)
        return load_model(Checkpoint.open(grown), context.dtype, context.device)
