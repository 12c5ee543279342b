"""ElChat: give a trained model back what it could before, by mixing its weights with those it started from.

Enters: a model that was trained after its vocabulary changed, and the checkpoint it came from. Leaves: the model mixed in place, and a
`Repair` that counts what was mixed. The source is read from disk tensor by tensor, tables in blocks of rows: no second model is in memory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge, Le
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import nn

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.graft import ORIGINS, iterate_blocks
from regraft.language.tables import live_tables
from regraft.training import Training
from regraft.vocab.job import Job
from regraft.vocab.transplant.installed import stored_parameters
from regraft.vocab.transplant.transplant import Transplant

Interpolation = Literal["slerp", "linear"]
Rate = Annotated[float, Ge(0), Le(1)]

PARALLEL = 0.9995  # cosine beyond which the released code takes the straight line
BLOCK = 16384  # rows of a table at a time


@pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class ElChat:
    r"""Merge a trained model with its source, and copy the special tokens (Yamaguchi et al. 2025, arXiv 2412.11704).

    A chat model that goes on training on plain text forgets how to chat. ElChat trains nothing more: each weight :math:`W` becomes

    .. math:: W' = \frac{\sin((1 - t)\,\theta)}{\sin\theta} W + \frac{\sin(t\,\theta)}{\sin\theta} W_0,
              \qquad \cos\theta = \frac{\langle W, W_0\rangle}{\lVert W\rVert\,\lVert W_0\rVert}

    with the source's :math:`W_0`, a parameter tensor being one vector, or :math:`W' = (1 - t) W + t W_0` (``method="linear"``, and
    wherever :math:`|\cos\theta| > 0.9995`, as after short trainings, or one of the two is zero). The rate :math:`t \in [0, 1]` is the
    source's share: 0 leaves the trained weight, 1 gives the source's, both bit for bit. Then the rows of special tokens become the
    source's in the input table, an untied head and an output bias, bit for bit in the dtype that the model is held in. Rows of new
    tokens have no source and stay.

    From the authors' released code (gucci-j/chat-cve): both methods, the threshold, the rates of layers, special tokens, and the order.
    There the first two and last two layers have trained ("2x2"), with rates 0.3, 0.5, 0.5, 0.3; all others are the source's anyway.
    Inferred, for trainings that reach other weights: layers further in take `inner`; what lies outside the layers (final norm, learned
    positions, a masked-LM head's transform) takes `outer`, where the released code returns to the source's final norm; special are all
    tokens that the tokenizer's file calls so. Ours: old rows are merged too, each as one vector; the released code keeps them as trained
    (``rows=0``).

    Attributes
    ----------
    method : path between the two weights; "slerp" keeps to the sphere, "linear" is the straight line.
    outer : rate of the first and last layer of each stack, and of what lies outside the layers.
    inner : rate of all other layers.
    rows : rate of the tables' old rows, and of their entries of an output bias (always linear there).
    special : whether special tokens get their source rows back.

    A rate outside [0, 1], another method or an unknown field is refused.
    """

    name: ClassVar[str] = "elchat"

    method: Interpolation = "slerp"
    outer: Rate = 0.3
    inner: Rate = 0.5
    rows: Rate = 0.3
    special: bool = True


@dataclass(frozen=True)
class Repair:
    """How much differed from the source and is mixed with it now, or the source's again.

    Attributes
    ----------
    weights : numbers in parameters outside the tables.
    rows : old rows of the input table and an untied head, without special tokens.
    special_rows : rows of special tokens.
    """

    weights: int = 0
    rows: int = 0
    special_rows: int = 0


def check_training(training: Training | None) -> None:
    """Raise `ParameterError` unless `training` leaves ordinary weights that can be mixed with the source's. Asked before any work."""
    if training is None:
        raise ParameterError("--elchat without --train: nothing trains, so there is nothing to repair: add --train 2min, or leave it out")
    if training.keeps_adapters:
        raise ParameterError(
            "--elchat with lora_merge=False: what was learned stays in the adapters, beside weights that are the source's: choose "
            "lora_merge=true"
        )
    if training.quantize != "none":
        raise ParameterError(
            f"--elchat with quantize={training.quantize}: its adapters also make up for rounding that the source's weights do not have: "
            "choose quantize=none"
        )


def check_start(training: Training, result: Transplant) -> None:
    """Raise `ParameterError` if the tables of `result` cannot hold the source's rows, or `training` will change new rows alone."""
    if result.primitives is not None:
        raise ParameterError("--elchat with factorised tables: two factors cannot hold the source's rows: choose a start without rank")
    if result.shared:
        raise ParameterError("--elchat with one table made of two: it cannot hold the source's rows of both: choose tie=false")
    frozen = training.parameters == "rows" or (training.parameters == "embeddings" and training.freeze_old_rows)
    if frozen and not result.layers:
        raise ParameterError(
            "--elchat where only new rows train: they have no source, so there is nothing to repair: choose parameters=2x2, lora or all"
        )


def repair(model: Any, job: Job, result: Transplant, elchat: ElChat) -> Repair:
    """Mix `model`, in place, with the source that `job` names; its tables are those of `result`, trained.

    Raises `CheckpointError` for a parameter that the files do not hold under a recognizable name.
    """
    stacks = {name: len(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    weights = 0
    with torch.no_grad():
        for name, stored, parameter in stored_parameters(model, job.checkpoint):
            rate = elchat.outer if depth(name, stacks) in (None, 0) else elchat.inner
            source = job.checkpoint.read(stored).to(parameter)
            if rate and not torch.equal(source, parameter):
                rates = torch.full((1, 1), rate, device=parameter.device)
                parameter.copy_(mix(parameter.reshape(1, -1), source.reshape(1, -1), rates, elchat.method).view_as(parameter))
                weights += parameter.numel()
        rows, special = _repair_tables(model, job, result, elchat)
    return Repair(weights, rows, special)


def mix(trained: torch.Tensor, source: torch.Tensor, rates: torch.Tensor, method: Interpolation) -> torch.Tensor:
    """Vectors (n, d) between those of `trained` and `source` at `rates` (n, 1), in `trained`'s dtype; computed in float32 or more."""
    wide = torch.promote_types(trained.dtype, torch.float32)
    a, b, t = trained.to(wide), source.to(wide), rates.to(wide)
    mixed = torch.lerp(a, b, t)
    if method == "slerp":
        cosine = (a * b).sum(-1, keepdim=True) / (a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True))
        angle = cosine.clamp(-1, 1).arccos()
        around = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
        mixed = torch.where(cosine.abs() <= PARALLEL, around, mixed)  # not for a zero vector, whose cosine is NaN
    return torch.where(t == 0, trained, torch.where(t == 1, source, mixed.to(trained.dtype)))


def depth(name: str, stacks: Mapping[str, int]) -> int | None:
    """How many layers lie between the one that owns the parameter `name` and the nearer end of its stack; None outside the `stacks`.

    `stacks` are lists of modules by name, with their lengths; of nested ones (experts in a layer) the outermost counts.
    """
    parts = name.split(".")
    for length in range(1, len(parts)):
        count = stacks.get(".".join(parts[:length]))
        if count is not None:
            return min(int(parts[length]), count - 1 - int(parts[length]))
    return None


def _repair_tables(model: Any, job: Job, result: Transplant, elchat: ElChat) -> tuple[int, int]:
    """Mix the old rows and put those of special tokens back; how many of each had changed, the bias not counted."""
    places = np.flatnonzero((job.change.source_ids >= 0) & (result.origins == ORIGINS.index("copied")))
    ids = job.change.source_ids[places]
    special = np.isin(ids, sorted(job.tokenizer.special_ids)) if elchat.special else np.zeros(len(ids), dtype=bool)
    rates = np.where(special, 1.0, elchat.rows)
    chosen = rates > 0
    places, ids, special, rates = places[chosen], ids[chosen], special[chosen], rates[chosen]
    old = put_back = 0
    for role, table in live_tables(model).items():
        read = _source_rows(job.checkpoint, role)
        if read is None:
            continue
        moved = _mix_rows(table.view(len(table), -1), read, places, ids, rates, elchat.method)
        if role != "bias":
            old, put_back = old + int((moved & ~special).sum()), put_back + int((moved & special).sum())
    return old, put_back


def _source_rows(checkpoint: Checkpoint, role: str) -> Callable[[slice], torch.Tensor] | None:
    """Reads rows (n, d) of a table, or entries (n, 1) of the bias; None where the files hold no bias."""
    layout = checkpoint.layout
    if role == "bias":
        return checkpoint.read(layout.bias[0]).reshape(-1, 1).__getitem__ if layout.bias else None
    name = (layout.head or layout.input)[0] if role == "head" else layout.input[0]
    return lambda rows: checkpoint.read_rows(name, rows.start, rows.stop)


def _mix_rows(
    table: torch.Tensor,
    read: Callable[[slice], torch.Tensor],
    places: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    rates: npt.NDArray[np.float64],
    method: Interpolation,
) -> npt.NDArray[np.bool_]:
    """Mix rows `places` of `table` with the source's rows `ids`, which `read` gives in slices; which of them differed."""
    moved = np.zeros(len(ids), dtype=bool)
    for rows in iterate_blocks(int(ids.max(initial=-1)) + 1, BLOCK):
        here = np.flatnonzero((ids >= rows.start) & (ids < rows.stop))
        if len(here):
            source = read(rows)[torch.from_numpy(ids[here] - rows.start)].to(table)
            at = torch.from_numpy(places[here]).to(table.device)
            trained = table[at]
            moved[here] = (trained != source).any(dim=-1).cpu().numpy()
            table[at] = mix(trained, source, torch.from_numpy(rates[here, None]).to(table.device, torch.float32), method)
    return moved
