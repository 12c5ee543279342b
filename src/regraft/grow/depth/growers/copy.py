"""Passthrough: layers of the model itself, in a given order, as merging tools stack them."""

import re

from regraft.errors import ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.grower import DepthGrower
from regraft.grow.depth.plan import Plan
from regraft.method import Paper


class Copy(DepthGrower):
    r"""Layers of the model in ranges that follow on each other (passthrough, depth up-scaling).

    For n layers of L the default takes the first :math:`\lceil n/2\rceil` and the last :math:`\lfloor n/2\rfloor`: to grow, two ranges that
    overlap in the middle (section 3.1 of the paper: 32 layers become 24 + 24); to shrink, the middle is left out. Past 2 L layers the
    ranges are of all layers again and again.

    ranges : other ranges, as ``0-20,10-30``: first layer and the one behind the last, from 0; empty for the default.
    loudness : factor of what the second and later copies of a layer add to the residual stream, as users of merging tools scale repeated
        layers; 1 leaves them as they are.

    Returns a checkpoint whose layers are those of the plan, weights (new layers, old layers).

    Raises `ParameterError` for ranges outside the model, or that do not add up to the depth.
    """

    paper = Paper(
        "SOLAR 10.7B: Scaling Large Language Models with Simple yet Effective Depth Up-Scaling", "Kim et al.", 2023, arxiv="2312.15166"
    )
    summary = "layers in ranges that follow on each other (passthrough)"

    ranges: str = ""
    loudness: float = 1.0

    def plan(self, gene: Gene, depth: int) -> Plan:
        count = gene.stack.depth
        sources = parsed(self.ranges, count) if self.ranges else _default(count, depth)
        if len(sources) != depth:
            raise ParameterError(
                f"copy: ranges={self.ranges} are {len(sources)} layers, --layers asks for {depth}: give ranges that add up"
            )
        plan = Plan.copies(sources, count)
        if self.loudness == 1.0:
            return plan
        return Plan(plan.graft, plan.new, tuple(self.loudness if layer in plan.new else 1.0 for layer in range(depth)))


def parsed(ranges: str, count: int) -> list[int]:
    """Numbers of layers in ``0-20,10-30``. Raises `ParameterError`."""
    sources: list[int] = []
    for part in ranges.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)-(\d+)", part)
        if match is None:
            raise ParameterError(
                f"copy: ranges={ranges}: '{part}' is not of the form 0-{count}, the first layer and the one behind the last"
            )
        first, behind = int(match[1]), int(match[2])
        if not first < behind <= count:
            raise ParameterError(
                f"copy: ranges={ranges}: '{part}' takes no layers that the model has: layers are 0 to {count - 1}, and a range ends before "
                f"its second number, so that all of them are 0-{count}"
            )
        sources += range(first, behind)
    return sources


def _default(count: int, depth: int) -> list[int]:
    whole, rest = (0, depth) if depth <= 2 * count else divmod(depth, count)
    if not whole:
        front = -(-rest // 2)
        return [*range(front), *range(count - (rest - front), count)]
    return [*range(count)] * whole + [*range(rest)]
