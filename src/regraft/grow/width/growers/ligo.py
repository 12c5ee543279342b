"""LiGO: the maps of the axes learned by a short training of the grown model, its weights alone in their place."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from scipy import sparse
from torch import nn
from torch.nn.utils import parametrize

from regraft.checkpoint.architecture import load_config
from regraft.checkpoint.files import dump
from regraft.checkpoint.shards import read_tensor
from regraft.errors import ParameterError
from regraft.graft import Graft
from regraft.grow.grower import Context
from regraft.grow.width.axes import Axes, Axis, Place, Side, Width, layer_of
from regraft.grow.width.duplicates import check_wider
from regraft.grow.width.grower import WidthGrower
from regraft.grow.width.maps import Maps, Plan
from regraft.grow.width.widening import widened
from regraft.language.loading import is_scorable, quiet
from regraft.language.model import MASKED
from regraft.language.precision import matmul_precision
from regraft.method import Paper
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.training import Training, train

SIDES: tuple[Side, ...] = ("write", "read", "norm", "last")


class LiGO(WidthGrower):
    r"""Learns :math:`W' = B W A^T` on the corpus while W stays as it is, then writes the model (section 3).

    The maps are tied as in the paper's algorithm 1: one B for the residual stream of the whole model; for each layer one for its neurons
    and one for its heads; what reads an axis uses the map of what writes it. They start where the function stays (copies; what reads
    divides by their number), which the paper leaves open, and only the difference from there is learned.

    Of heads whole groups are mixed (:math:`B \otimes 1`), one map for queries, keys, values and output, so that rotary positions and
    groups stay; the paper has a dense map for each of the three (ours). Depth, the paper's other factor, is `regraft grow depth`.

    Parameters
    ----------
    rank : of what is learned of each map; None learns all of it, as the paper does, which for large models is as much as the model.
    lr, batch_size, block : of the training, AdamW; its steps are `--steps` (the paper takes 100).

    Raises `ParameterError` for fewer units than there are, a width that heads and groups do not allow, a model without a
    language-model head, or no corpus.
    """

    name = "ligo"
    learns = True
    paper = Paper("Learning to Grow Pretrained Models for Efficient Transformer Training", "Wang et al.", 2023, arxiv="2303.00980")
    summary = "maps of the axes, learned on the corpus while the old weights stay"
    needs = ("corpus",)

    rank: Annotated[int, Ge(1)] | None = None
    lr: Annotated[float, Gt(0)] = 1e-3
    batch_size: Annotated[int, Ge(1)] = 8
    block: Annotated[int, Ge(4)] = 128

    def plan(self, axes: Axes, width: Width, context: Context) -> Plan:
        check_wider(self.name, axes, width)
        texts = context.texts(self.name)
        if not is_scorable(axes.checkpoint):
            raise ParameterError(f"ligo: {axes.checkpoint.path} has no language-model head to learn by: choose net2net or bert2bert")
        start = widened(axes, width, random=np.random.default_rng(context.seed))
        torch.manual_seed(context.seed)
        learned = learnable(start, axes, self.rank)
        model = expanded(axes, start, learned).to(context.device)
        objective: Literal["mlm", "clm"] = "mlm" if axes.checkpoint.config["architectures"][0] in MASKED else "clm"
        training = Training(
            parameters="marked", objective=objective, steps=context.steps, lr=self.lr, batch_size=self.batch_size, accumulate=1,
            block=self.block, align_documents=True, warmup=0.1, weight_decay=0.0, seed=context.seed,
        )  # fmt: skip
        tokenizer = load_tokenizer(Tokenizer.from_directory(axes.checkpoint.path))
        with matmul_precision(context.dtype, context.device):
            run = train(model, tokenizer, texts, training, directory=context.state)
        losses = [run.losses[0].bits_per_byte, run.losses[-1].bits_per_byte] if run.losses else []
        count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        facts = {"ligo_steps": run.steps, "ligo_tokens": run.tokens, "ligo_parameters": count, "ligo_bits_per_byte": losses}
        maps: dict[Axis, Any] = {}
        for axis, before in start.maps.items():
            each = learned[axis]
            maps[axis] = each.maps() if isinstance(before, Maps) else [one.maps() for one in each]
        return Plan(width, maps, exact=False, why=f"maps were learned in {run.steps} steps", eps=start.eps, facts=facts)


class Learned(nn.Module):
    """The maps of one axis: those they start with, and the difference that is learned, whole or as a product of `rank`.

    `size` numbers of the axis move together (heads); the difference is over units (new, old).
    """

    def __init__(self, start: Maps, size: int, rank: int | None) -> None:
        super().__init__()
        self.size = size
        self.factors: dict[str, float | torch.Tensor] = {}
        units = {side: sparse.csr_matrix(start.of(side).weights[::size, ::size]) for side in SIDES}
        new, old = units["write"].shape
        self.grafts = units
        for side, matrix in units.items():
            coo = matrix.tocoo()
            ids = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
            value = torch.sparse_coo_tensor(ids, torch.from_numpy(coo.data).float(), matrix.shape, check_invariants=False).coalesce()
            self.register_buffer(side, value, persistent=False)
            self.register_buffer(f"{side}_scale", torch.from_numpy(_scale(matrix, units["write"])).float(), persistent=False)
        self.left = nn.Parameter(torch.zeros(new, old if rank is None else rank))
        self.right = None if rank is None else nn.Parameter(torch.randn(rank, old) / old**0.5)

    def apply_to(self, tensor: torch.Tensor, side: Side) -> torch.Tensor:
        """`tensor` (axis, ...) with the map of `side` on its first dimension."""
        flat = tensor.reshape(tensor.shape[0] // self.size, -1)
        moved = self.left @ flat if self.right is None else self.left @ (self.right @ flat)
        mixed: torch.Tensor = torch.sparse.mm(getattr(self, side), flat) + getattr(self, f"{side}_scale")[:, None] * moved
        return mixed.reshape(-1, *tensor.shape[1:])

    @torch.no_grad()
    def maps(self) -> Maps:
        """What was learned, as maps of the axis."""
        moved = (self.left if self.right is None else self.left @ self.right).double().cpu().numpy()
        grafts = []
        for side in SIDES:
            scale = getattr(self, f"{side}_scale").double().cpu().numpy()
            grafts.append(Graft(sparse.csr_matrix(self.grafts[side] + scale[:, None] * moved)))
        return Maps(*grafts).repeated(self.size)


def _scale(matrix: sparse.csr_matrix, write: sparse.csr_matrix) -> Any:
    """What a side's map is of the writers' map, row by row: the largest weights' ratio (1 where nothing is written)."""
    mine, base = (np.asarray(abs(one).max(axis=1).todense()).ravel() for one in (matrix, write))
    scale = np.ones(len(base))
    scale[base > 0] = mine[base > 0] / base[base > 0]
    return scale


class Expanded(nn.Module):
    """The parametrization of a weight: the old one with a learned map on each dimension."""

    def __init__(self, places: tuple[Place | None, ...], axes: Mapping[Axis, Learned], sizes: Mapping[Axis, int]) -> None:
        super().__init__()
        self.places, self.sizes = places, dict(sizes)
        self.axes = nn.ModuleDict({str(axis): axes[axis] for place in places if place is not None for axis in place.axes})

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        for dim, place in enumerate(self.places):
            if place is not None:
                parts = torch.split(weight.movedim(dim, 0), [self.sizes[axis] for axis in place.axes])
                made = [self.axes[axis].apply_to(part, place.side) for axis, part in zip(place.axes, parts, strict=True)]  # type: ignore[operator]
                weight = torch.cat(made).movedim(0, dim)
        return weight


def learnable(start: Plan, axes: Axes, rank: int | None) -> dict[Axis, Any]:
    """A `Learned` for the residual stream, and for each layer one for neurons and one for heads, which all its projections share."""
    size = axes.width.head_dim
    each = axes.width.heads // axes.width.groups
    found: dict[Axis, Any] = {"hidden": Learned(start.on("hidden", None), 1, rank), "ffn": [], "groups": [], "heads": []}
    for layer in range(axes.depth):
        found["ffn"].append(Learned(start.on("ffn", layer), 1, rank))
        groups = Learned(start.on("groups", layer), size, rank)
        heads = Learned(start.on("heads", layer), size * each, rank)
        heads.left, heads.right = groups.left, groups.right
        found["groups"].append(groups)
        found["heads"].append(heads)
    return found


def expanded(axes: Axes, start: Plan, learned: Mapping[Axis, Any]) -> Any:
    """The grown model live, each weight computed from the old one; only the maps train."""
    import transformers

    config = axes.config(start.width, start.eps)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder, quiet():
        (Path(folder) / "config.json").write_bytes(dump(config))
        cls = getattr(transformers, axes.checkpoint.config["architectures"][0])
        model = cls(load_config(Path(folder), config)).float().eval()
    modules = dict(model.named_modules())
    sizes = {axis: axes.width.size(axis) for axis in start.maps}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    stored = {name: key for key, name in axes.called.items()}
    shared = list(model.named_parameters(remove_duplicate=False))  # tied ones under each of their names
    held = {id(parameter): stored[name] for name, parameter in shared if name in stored}
    for name, parameter in shared:
        key = held[id(parameter)]
        module, _, attribute = name.rpartition(".")
        old = nn.Parameter(read_tensor(axes.checkpoint.tensors[key]).float(), requires_grad=False)
        setattr(modules[module], attribute, old)
        if any(axes.places[key]):
            layer = layer_of(name)
            maps = {axis: one if isinstance(one, Learned) else one[layer or 0] for axis, one in learned.items()}
            parametrize.register_parametrization(modules[module], attribute, Expanded(axes.places[key], maps, sizes), unsafe=True)
    return model
