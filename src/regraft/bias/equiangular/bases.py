"""Equiangular basis vectors: made, certified, kept, and more of them for more classes.

Enters: how many classes, in how many dimensions, and perhaps the greatest cosine allowed. Leaves: `Bases`, unit rows with a report of what
was reached beside the Welch bound and beside random rows.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from regraft.bias.equiangular.bounds import check, smallest_dimension, welch
from regraft.bias.equiangular.descent import TOLERANCE, Descent, greatest_and_mean
from regraft.errors import InputError, OutputError, ParameterError
from regraft.output import atomic_file
from regraft.progress import progress_bar

Generator = Literal["auto", "orthogonal", "simplex", "hinge", "squared-hinge", "p-norm", "random"]
WORK = 2e12  # multiplications that steps may cost where their number is not given
PAPER = Descent("hinge", lr=1e-3, momentum=0.0)
STORED = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True, eq=False)
class Bases:
    """Unit rows (classes, dim) in float32, and what they are.

    facts : classes, dim, generator, seed, steps, signed, alpha (asked for, or settled on), greatest_cosine and mean_cosine (over all pairs
    of the rows as stored, in float64), bound (Welch), random_cosine (the greatest of as many random rows).
    """

    vectors: Tensor
    facts: dict[str, Any]

    @property
    def classes(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def save(self, path: str | Path, dtype: str = "float32") -> Path:
        """Write rows and facts to a .safetensors file, whole or not at all. Raises `OutputError`, or `ParameterError` for the dtype.

        In "float16" and "int8" (a scale a row falls away, rows are unit rows again when they are read) the facts are those of the rows that
        will be read.
        """
        if dtype not in STORED:
            raise ParameterError(f"dtype {dtype}: choose {', '.join(STORED)}")
        stored = self.vectors
        if dtype == "int8":
            stored = (stored / stored.abs().amax(1, keepdim=True) * 127).round()
        stored = stored.to(STORED[dtype]).contiguous()
        facts = _certified(self.vectors if dtype == "float32" else normalize(stored.float(), dim=1), self.facts) | {"dtype": dtype}
        try:
            with atomic_file(path) as partial:
                save_file({"vectors": stored}, partial, {"regraft": json.dumps(facts)})
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another file") from None
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Bases":
        """Read what `save` wrote. Raises `InputError` for a file that is missing, damaged or of something else."""
        try:
            with safe_open(str(path), "pt") as file:
                vectors = file.get_tensor("vectors")
                facts = json.loads((file.metadata() or {})["regraft"])
            if vectors.ndim != 2 or not torch.isfinite(vectors).all() or not vectors.any(1).all():
                raise ValueError("its rows are not finite vectors")
        except FileNotFoundError:
            raise InputError(f"{path}: no such file: make one with regraft bias bases") from None
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: holds no class vectors ({error}): make a file with regraft bias bases") from None
        return cls(vectors if vectors.dtype == torch.float32 else normalize(vectors.float(), dim=1), facts)


def make_bases(
    classes: int,
    dim: int,
    *,
    alpha: float | None = None,
    generator: Generator = "auto",
    signed: bool = False,
    steps: int | None = None,
    seed: int = 42,
) -> Bases:
    r"""Unit vectors :math:`w_i` with :math:`|\langle w_i, w_j \rangle| \le \alpha` for all pairs (CVPR 2023, eq. 2 and algorithm 1).

    Parameters
    ----------
    alpha : the greatest cosine allowed; None: as small as `steps` come to, by bisection between the Welch bound and what is reached.
    generator : "orthogonal" (classes <= dim, by QR), "simplex" (classes <= dim + 1), "hinge" (the paper's: plain descent at 1e-3),
        "squared-hinge" and "p-norm" (with momentum: fewer steps and tighter sets), "random" (no descent); "auto": the first that does.
    signed : bound the cosine itself and not its absolute value.
    steps : of the descent at most; None: 100,000 for "hinge" with `alpha` as in the paper, else what 2e12 multiplications pay for, at most
        500.

    Raises `ParameterError`: an `alpha` below the bound (names it and the dimension that would do), or one that the steps did not reach.
    """
    check(classes, dim, alpha, signed=signed)
    low = welch(classes, dim, signed=signed)
    exact = generator in ("orthogonal", "simplex", "random")
    if generator == "auto":
        generator = "simplex" if signed and classes <= dim + 1 else "orthogonal" if classes <= dim else "squared-hinge"
        exact = generator != "squared-hinge"
    draw = torch.Generator().manual_seed(seed)
    start = normalize(torch.randn(classes, dim, generator=draw), dim=1)
    facts = {"classes": classes, "dim": dim, "generator": generator, "seed": seed, "signed": signed, "bound": low}
    facts["random_cosine"] = greatest_and_mean(start, signed=signed)[0]
    if exact:
        rows = _exact(generator, classes, dim, start)
        return Bases(rows, _certified(rows, facts | {"alpha": alpha, "steps": 0}))
    way = replace(PAPER if generator == "hinge" else Descent(generator), signed=signed)  # type: ignore[arg-type]
    if steps is None:
        steps = 100_000 if generator == "hinge" and alpha is not None else _affordable(classes, dim)
    rows, done = _apart(way, start, alpha, low, steps)
    found = Bases(rows, _certified(rows, facts | {"alpha": alpha, "steps": done}))
    return _met(found, alpha, done)


def grow_bases(bases: Bases, more: int, *, alpha: float | None = None, steps: int | None = None, seed: int = 43) -> Bases:
    """`bases` with `more` rows behind the old ones, which stay what they are to the last bit.

    New rows are pushed from old and from new ones. `alpha`: as in `make_bases`, for the pairs with a new row. Raises `ParameterError`: as
    there, or `more` below 1.
    """
    if more < 1:
        raise ParameterError(f"{more} more classes: give at least 1")
    signed, fixed, total = bool(bases.facts["signed"]), bases.classes, bases.classes + more
    check(total, bases.dim, alpha, signed=signed)
    low = welch(total, bases.dim, signed=signed)
    draw = torch.Generator().manual_seed(seed)
    new = torch.randn(more, bases.dim, generator=draw)
    if total <= bases.dim:  # room is left: orthogonal to all there is
        span = torch.linalg.qr(bases.vectors.mT.double()).Q
        free = new.double() - new.double() @ span @ span.mT
        rows = torch.cat([bases.vectors, torch.linalg.qr(free.mT).Q.mT.float()])
        done = 0
    else:
        start = torch.cat([bases.vectors, normalize(new, dim=1)])
        steps = steps or _affordable(total, bases.dim)
        rows, done = _apart(Descent(signed=signed), start, alpha, low, steps, fixed)
    facts = bases.facts | {"classes": total, "bound": low, "alpha": alpha, "steps": done, "grown_from": fixed}
    return _met(Bases(rows, _certified(rows, facts)), alpha if alpha is None else max(alpha, bases.facts["greatest_cosine"]), done)


def _exact(generator: str, classes: int, dim: int, start: Tensor) -> Tensor:
    """Sets that need no descent."""
    if generator == "random":
        return start
    if generator == "orthogonal":
        if classes > dim:
            raise ParameterError(
                f"orthogonal: {classes} classes do not fit into {dim} dimensions: give --dim {classes}, or another generator"
            )
        rows: Tensor = torch.linalg.qr(start.mT.double()).Q.mT.float().contiguous()
        return rows
    if classes > dim + 1:
        raise ParameterError(f"simplex: {classes} classes need {classes - 1} dimensions, not {dim}: give --dim {classes - 1}")
    centered = torch.eye(classes, dtype=torch.float64) - 1 / classes  # rows of rank N - 1, all pairs at -1 / (N - 1)
    inside = torch.linalg.svd(centered).Vh[: classes - 1]
    turn = torch.linalg.qr(start[: classes - 1].mT.double()).Q.mT  # (N - 1, d): placed at random in d dimensions
    return normalize(centered @ inside.mT @ turn, dim=1).float()


def _apart(way: Descent, start: Tensor, alpha: float | None, low: float, steps: int, fixed: int = 0) -> tuple[Tensor, int]:
    """Rows pushed apart in at most `steps` steps, and how many were taken. Without `alpha`: bisection between `low` and what is reached."""
    taken = 0
    with progress_bar("pushing class vectors apart", steps, "steps") as bar:

        def each(greatest: float) -> None:
            nonlocal taken
            taken += 1
            bar.advance()
            bar.say(f"greatest cosine {greatest:.4f}")

        if alpha is not None:
            return way.run(start, alpha, steps, fixed, each)[0], taken
        best, reached = way.run(start, 2 * low if low > 0 else 0.05, steps, fixed, each)
        floor = low
        while taken < steps and reached - floor > 0.02 * max(reached, 0.01):
            aim = (floor + reached) / 2
            rows, found = way.run(best, aim, min(steps - taken, max(10, steps // 4)), fixed, each)
            if found < reached:
                best, reached = rows, found
            if found > aim + TOLERANCE:
                floor = aim
    return best, taken


def _affordable(classes: int, dim: int) -> int:
    return int(min(500, max(20, WORK / (classes**2 * dim))))


def _certified(vectors: Tensor, facts: dict[str, Any]) -> dict[str, Any]:
    greatest, mean = greatest_and_mean(vectors, signed=bool(facts["signed"]))
    return facts | {"greatest_cosine": greatest, "mean_cosine": mean}


def _met(found: Bases, alpha: float | None, steps: int) -> Bases:
    """`found`, or `ParameterError` where it exceeds `alpha`."""
    reached = found.facts["greatest_cosine"]
    if alpha is not None and reached > alpha + 2 * TOLERANCE:
        dim = smallest_dimension(found.classes, alpha / 1.5, signed=found.facts["signed"])
        raise ParameterError(
            f"alpha {alpha:g}: {steps} steps came to {reached:.4f} (no set is below {found.facts['bound']:.4f}): give more --steps, "
            f"--alpha {reached + TOLERANCE:.4f}, or --dim {max(dim, found.dim + 1)}"
        )
    return found
