"""Facts with known rules: places on a square grid, steps, mirrors and two relations without any rule.

A relation leads from a place to one other, or off the grid. Which relations are symmetric, which lead back and which are two others one
after another is read off the moves themselves, so that nothing is left to judgement.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from regraft.graph.facts.data import Facts

Moves = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MadeFacts:
    """`facts`, whose valid and test parts follow by symmetry or inversion from training ones.

    Attributes
    ----------
    symmetric : (R,) relations that twice are nothing. inverse : (R, R) whether i and j lead back from each other. composed : (R, R, R)
        whether j after i is k, at [i, j, k], with three different relations.
    """

    facts: Facts
    symmetric: npt.NDArray[np.bool_]
    inverse: npt.NDArray[np.bool_]
    composed: npt.NDArray[np.bool_]


def grid(side: int = 12, held_out: float = 0.25, seed: int = 0) -> MadeFacts:
    """`side` x `side` places, 11 relations; `held_out` of all facts, which follow from one in training, go to valid and test in halves."""
    draw = np.random.default_rng(seed)
    moves = moves_of(side, draw)
    names = tuple(moves)
    to = np.stack([moves[name] for name in names])
    symmetric, inverse, composed = rules_of(to)
    relation, head = np.nonzero(to >= 0)
    rows = {(int(h), int(r), int(to[r, h])): None for r, h in zip(relation, head, strict=True)}
    out: list[tuple[int, int, int]] = []
    every = list(rows)
    for place in draw.permutation(len(every)):
        if len(out) >= held_out * len(every):
            break
        h, r, t = every[place]
        back = r if symmetric[r] else int(inverse[r].argmax()) if inverse[r].any() else None
        if back is not None and h != t and (t, back, h) in rows:
            out.append((h, r, t))
            del rows[h, r, t]
    train, valid, test = (torch.tensor(part, dtype=torch.int64) for part in (list(rows), out[::2], out[1::2]))
    return MadeFacts(Facts("made rules", tuple(map(str, range(side * side))), names, train, valid, test), symmetric, inverse, composed)


def moves_of(side: int, draw: np.random.Generator) -> dict[str, Moves]:
    """(side * side,) where each relation leads from each place; -1 off the grid."""
    x, y = np.divmod(np.arange(side * side), side)
    last = side - 1
    ends = {
        "east": (x + 1, y),
        "west": (x - 1, y),
        "north": (x, y + 1),
        "south": (x, y - 1),
        "northeast": (x + 1, y + 1),
        "southwest": (x - 1, y - 1),
        "mirror-east": (last - x, y),
        "mirror-north": (x, last - y),
        "turn": (last - x, last - y),
    }
    found = {name: np.where((a >= 0) & (a < side) & (b >= 0) & (b < side), a * side + b, -1) for name, (a, b) in ends.items()}
    for name in ("chance", "chance-too"):  # one cycle through all places, in no order
        order = draw.permutation(side * side)
        found[name] = np.empty(side * side, dtype=np.int64)
        found[name][order] = np.roll(order, 1)
    return found


def rules_of(to: Moves) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which rules hold of moves (R, places) wherever both sides are on the grid, and that is at half of the places or more."""
    count, size = to.shape
    after = np.stack([[np.where((to[i] >= 0), to[j][to[i]], -1) for j in range(count)] for i in range(count)])
    both = (after[:, :, None] >= 0) & (to[None, None] >= 0)
    composed = ((after[:, :, None] == to[None, None]) | ~both).all(-1) & (2 * both.sum(-1) >= size)
    nothing = ((after == np.arange(size)) | (after < 0)).all(-1) & (2 * (after >= 0).sum(-1) >= size)
    own = np.arange(count)
    symmetric = nothing[own, own].copy()
    inverse = nothing & ~np.eye(count, dtype=bool)
    composed[own, own] = composed[own, :, own] = composed[:, own, own] = False
    return symmetric, inverse, composed
