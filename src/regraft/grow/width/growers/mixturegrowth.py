"""MixtureGrowth of transformers: two networks of half the width on the diagonal of a wide one."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from scipy import sparse

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError, ParameterError
from regraft.graft import Graft
from regraft.grow.grower import Context
from regraft.grow.width.axes import Axes, Axis, Place, Side, Width
from regraft.grow.width.grower import WidthGrower
from regraft.grow.width.maps import Maps, Plan, Term, scaled
from regraft.grow.width.mixture.coefficients import added
from regraft.method import Paper


class MixtureGrowth(WidthGrower):
    r"""Every matrix becomes :math:`[[W_0, W_2], [W_3, W_1]]`: what two models learned on the diagonal, mixes of it beside it (section 3).

    :math:`W_2 = \alpha_2 W_0` and :math:`W_3 = \alpha_3 W_1`: each model is one template of coefficient 1, so new blocks are multiples
    of it (`regraft.grow.width.mixture` has the method with several templates and its training, for any `nn.Module`). Tables of inputs and
    norms lie side by side. The new width is twice the old one.

    Norms over the whole residual stream see both halves at once, and an ordinary config has no norm of halves: with `rule` "zero" the new
    model computes the mean of both models' logits only where the halves are as loud as each other, and exactly so where both are one model.
    What it is off by is measured. Two models that were trained apart are the method; one model twice is the cheap variant (ours).

    Parameters
    ----------
    second : a checkpoint of the same shape and tokenizer; None: the model itself with `noise`.
    noise : standard deviation, by that of each tensor, of what is added to the copy of the model where no second one is given.
    rule : coefficients of new blocks: "zero"; "orthogonal", which with one template is 1; "copy"; "random", uniform in [0, 1).
    logits : the head gives the "mean" of both models' logits (ours), or their "sum", as the paper's classifier does.

    Raises `ParameterError` for another width than twice the old one, or a second model of another shape.
    """

    name = "mixturegrowth"
    paper = Paper("MixtureGrowth: Growing Neural Networks by Recombining Learned Parameters", "Pham et al.", 2024, arxiv="2311.04251")
    summary = "two models of half the width side by side, and mixes of them between"

    second: str | None = None
    noise: Annotated[float, Ge(0)] = 0.01
    rule: Literal["zero", "orthogonal", "copy", "random"] = "zero"
    logits: Literal["mean", "sum"] = "mean"

    def plan(self, axes: Axes, width: Width, context: Context) -> Plan:
        if width != axes.width.at(2 * axes.width.hidden):
            raise ParameterError(
                f"mixturegrowth: --hidden {width.hidden}: two models of {axes.width.hidden} make one of {2 * axes.width.hidden}: "
                f"give that, or choose net2net for others"
            )
        other = axes if self.second is None else self._second(axes)
        sizes: dict[Axis, int] = {axis: axes.width.size(axis) for axis in ("hidden", "heads", "groups", "ffn")}
        maps: dict[Axis, Maps] = {axis: _halves(size, self.logits == "mean" and axis == "hidden") for axis, size in sizes.items()}
        same = self.second is None and not self.noise and self.rule == "zero" and self.logits == "mean"
        why = "both halves are the same model" if same else "norms see both halves at once"
        coefficients = self._coefficients(context.seed)
        facts: dict[str, object] = {"coefficients": coefficients}
        if self.second is not None:
            facts["second"] = other.checkpoint.source_hash()

        def terms(axes: Axes, plan: Plan, stored: str) -> list[Term]:
            return _blocks(axes, other, plan, stored, coefficients)

        noise = self.noise if self.second is None else 0.0
        return Plan(width, maps, exact=same, why=why, facts=facts, terms=terms, noise=noise, seed=context.seed, noisy_half=True)

    def _second(self, axes: Axes) -> Axes:
        other = Axes.open(Checkpoint.open(Path(str(self.second))))
        mine, theirs = ({name: info.shape for name, info in one.checkpoint.tensors.items()} for one in (axes, other))
        if mine != theirs or other.width != axes.width or other.kind != axes.kind:
            raise CheckpointError(f"{self.second}: its tensors are not those of {axes.checkpoint.path}: give a model of the same shape")
        return other

    def _coefficients(self, seed: int) -> list[float]:
        """Of blocks 0 to 3."""
        generator = torch.Generator().manual_seed(seed)
        known = [torch.ones(1), torch.ones(1)]
        for _ in range(2):
            new = added(known, self.rule, torch.ones(1), generator)
            known.append(new.abs() if self.rule == "orthogonal" else new)  # of a single direction only the sign is free
        return [float(one) for one in known]


def _halves(size: int, mean: bool) -> Maps:
    """The old axis twice; what reads for the logits takes the mean."""
    twice = Graft.copy_of(np.arange(2 * size, dtype=np.int64) % size, size)
    return Maps(twice, twice, twice, scaled(twice, 0.5) if mean else twice)


def _half(size: int, half: int) -> sparse.csr_matrix:
    """What puts an axis of `size` into one half of one twice as long."""
    return sparse.csr_matrix((np.ones(size), (np.arange(size) + half * size, np.arange(size))), shape=(2 * size, size))


def _blocks(axes: Axes, other: Axes, plan: Plan, stored: str, coefficients: list[float]) -> list[Term]:
    """The grid [[0, 2], [3, 1]] of one tensor: blocks 0 and 2 of the first model, 3 and 1 of the second."""
    places = axes.places[stored]
    over = [dim for dim, place in enumerate(places) if place is not None]
    head = _reads_for_logits(axes, stored)
    loud = 0.5 if head and plan.maps["hidden"].last.weights.data[0] == 0.5 else 1.0  # type: ignore[union-attr]
    found = []
    for number, (row, column) in enumerate([(0, 0), (1, 1), (0, 1), (1, 0)]):
        if len(over) == 1 and number > 1:  # side by side: no blocks between
            break
        weight = coefficients[number] * loud
        if not weight:
            continue
        grafts: list[Graft | None] = [None] * len(places)
        for dim in over:
            place = places[dim]
            assert place is not None
            grafts[dim] = _placed(axes, place, row if place.side != "read" else column)
        grafts[over[0]] = scaled(grafts[over[0]], weight)  # type: ignore[arg-type]
        found.append(Term((axes, other)[(0, 1, 0, 1)[number]].checkpoint.tensors[stored], tuple(grafts)))
    return found


def _placed(axes: Axes, place: Place, half: int) -> Graft:
    return Graft(sparse.csr_matrix(sparse.block_diag([_half(axes.width.size(axis), half) for axis in place.axes])))


def _reads_for_logits(axes: Axes, stored: str) -> bool:
    """Whether `stored` is the untied head, or the norm before a tied one."""
    sides: list[Side] = [place.side for place in axes.places[stored] if place is not None]
    return sides == ["last"] or (sides == ["read"] and axes.layer(stored) is None)
