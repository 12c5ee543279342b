"""Net2WiderNet: more units, each a copy of an old one, whose readers share its weight."""

from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from regraft.grow.grower import Context
from regraft.grow.width.axes import Axes, Width
from regraft.grow.width.duplicates import check_wider
from regraft.grow.width.grower import WidthGrower
from regraft.grow.width.maps import Plan
from regraft.grow.width.widening import widened
from regraft.method import Paper


class Net2Net(WidthGrower):
    r"""Copies of units chosen by chance; their readers share the weight, so the function stays.

    :math:`U'_{\cdot j} = U_{\cdot g(j)}`, :math:`V'_{j \cdot} = V_{g(j) \cdot} / |\{x : g(x) = g(j)\}|` (section 2.2, equations 3 to 6), on
    neurons and on groups of heads of every layer by a map of its own. The residual stream is copied in turn, each unit equally often: norms
    see all of it, so a width that is a multiple of the old one is exact, and others are not (LayerNorm), or get silent units that RMSNorm's
    weights make up for (ours).

    Parameters
    ----------
    split : how a unit's weight is parted among the readers of its copies: "even" as in the paper, or "random", which is as exact and lets
        copies learn apart (ours). noise : standard deviation of noise on every matrix, by that of its weights; breaks the copies' symmetry
        as the paper proposes, and the exactness. uneven : of a residual stream whose width is no multiple, "silent" units where the model
        has RMSNorm, or "copies" all the same, which is not exact (ours).

    Raises `ParameterError` for fewer units than there are, or a width that heads and groups do not allow.
    """

    name = "net2net"
    paper = Paper("Net2Net: Accelerating Learning via Knowledge Transfer", "Chen et al.", 2016, arxiv="1511.05641")
    summary = "copies of units whose readers share the weight; the function stays"

    split: Literal["even", "random"] = "even"
    noise: Annotated[float, Ge(0)] = 0.0
    uneven: Literal["silent", "copies"] = "silent"

    def plan(self, axes: Axes, width: Width, context: Context) -> Plan:
        check_wider(self.name, axes, width)
        plan = widened(axes, width, random=np.random.default_rng(context.seed), split=self.split, uneven=self.uneven)
        if not self.noise:
            return plan
        return Plan(**vars(plan) | {"noise": self.noise, "exact": False, "why": "noise was added", "seed": context.seed})
