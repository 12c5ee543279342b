"""bert2BERT: units copied so that the function stays (FPI), or taken from the next layer, which knows more (AKI)."""

from typing import Literal

import numpy as np
from scipy import sparse

from regraft.graft import Graft
from regraft.grow.grower import Context
from regraft.grow.width.axes import Axes, Width
from regraft.grow.width.duplicates import check_wider
from regraft.grow.width.grower import WidthGrower
from regraft.grow.width.maps import Maps, Plan, Term, term
from regraft.grow.width.widening import widened
from regraft.method import Paper


class Bert2Bert(WidthGrower):
    r"""Expands what is read, then what is written (section 3.2).

    initialization : "fpi" (default here) keeps the function: both by copies. "aki": what is read by copies of this layer, while of what
        is written the old units come from this layer and the new ones from the same place of the next layer; the last
        layer has no next one and copies its own. It does not keep the function; the paper prefers it, for it learns faster.

    Copies are chosen by chance for neurons and heads, in turn for the residual stream, which is exact for a multiple of the old width (see
    Net2Net). Under grouped-query attention whole groups are copied (ours).

    Raises `ParameterError` for fewer units than there are, or a width that heads and groups do not allow.
    """

    name = "bert2bert"
    paper = Paper("bert2BERT: Towards Reusable Pretrained Language Models", "Chen et al.", 2022, arxiv="2110.07143")
    summary = "copies of units of this layer (FPI), or new ones from the next layer (AKI)"

    initialization: Literal["fpi", "aki"] = "fpi"

    def plan(self, axes: Axes, width: Width, context: Context) -> Plan:
        check_wider(self.name, axes, width)
        aki = self.initialization == "aki"
        plan = widened(axes, width, random=np.random.default_rng(context.seed), uneven="copies" if aki else "silent")
        if not aki:
            return plan
        why = "new units come from the next layer (AKI)"
        return Plan(**vars(plan) | {"exact": False, "why": why, "terms": from_the_next_layer})


def from_the_next_layer(axes: Axes, plan: Plan, stored: str) -> list[Term]:
    """Old units of what `stored` writes from itself, new ones from its namesake one layer on."""
    own = term(axes, plan, stored)
    layer = axes.layer(stored)
    places = axes.places[stored]
    written = next((dim for dim, place in enumerate(places) if place is not None and place.side == "write"), None)
    following = None if layer is None else stored.replace(f".{layer}.", f".{layer + 1}.", 1)
    if written is None or following not in axes.checkpoint.tensors:
        return [own]
    place = places[written]
    assert place is not None
    old, new = (_kept(plan, place, layer, axes, fresh=fresh) for fresh in (False, True))
    ahead = axes.checkpoint.tensors[following]
    return [
        Term(own.info, (*own.maps[:written], old, *own.maps[written + 1 :])),
        Term(ahead, (*own.maps[:written], new, *own.maps[written + 1 :])),
    ]


def _kept(plan: Plan, place: object, layer: int | None, axes: Axes, *, fresh: bool) -> Graft:
    """The map of `place` with only the rows of old units, or of new ones, other than zero."""
    parts = []
    for axis in place.axes:  # type: ignore[attr-defined]
        graft = plan.on(axis, layer).of("write")
        rows = (np.arange(graft.shape[0]) >= axes.width.size(axis)) == fresh
        parts.append(sparse.diags(rows.astype(np.float64)) @ graft.weights)
    return Graft(sparse.csr_matrix(sparse.block_diag(parts)))


__all__ = ["Bert2Bert", "Maps", "from_the_next_layer"]
