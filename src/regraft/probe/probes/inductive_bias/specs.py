"""Hypothesis spaces and models as a command line writes them: `rbf`, `nngp:3`, `mlp:64,64`, `knn:5`."""

from dataclasses import dataclass

from regraft.errors import ParameterError

KERNELS = {"rbf": (), "laplace": (), "matern32": (), "matern52": (), "linear": (), "nngp": (2,), "cnngp": (2,)}
NETWORKS = {"mlp": (64,), "cnn": (16,)}
ESTIMATORS = {"ridge": (), "logistic": (), "tree": (), "forest": (), "knn": (5,)}
ONE_NUMBER = ("nngp", "cnngp", "knn")
WIDEST, DEEPEST = 65_536, 64


@dataclass(frozen=True)
class Spec:
    """`kind` and its numbers: hidden widths of a network, depth of an infinite one, neighbours."""

    kind: str
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.kind + (":" + ",".join(map(str, self.numbers)) if self.numbers else "")


def parse_space(text: str) -> Spec:
    """A hypothesis space. Raises `ParameterError` for an unknown one."""
    return _parse(text, KERNELS | NETWORKS, "--space", "rbf, nngp:3, mlp:64")


def parse_model(text: str) -> Spec:
    """A model class whose error is the target. Raises `ParameterError` for an unknown one."""
    return _parse(text, NETWORKS | ESTIMATORS, "--model", "mlp:64,64, cnn:16, knn:5, ridge")


def _parse(text: str, known: dict[str, tuple[int, ...]], option: str, examples: str) -> Spec:
    kind, colon, rest = text.strip().lower().partition(":")
    if kind not in known:
        raise ParameterError(f"{option} {text}: unknown: choose from {', '.join(known)}, such as {examples}")
    if not colon:
        return Spec(kind, known[kind])
    if not known[kind]:
        raise ParameterError(f"{option} {text}: {kind} takes no number: write {kind}")
    try:
        numbers = tuple(int(part) for part in rest.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1 or (kind in ONE_NUMBER and len(numbers) > 1):
        raise ParameterError(f"{option} {text}: write whole numbers of at least 1 after the colon, such as {examples}")
    if max(numbers) > WIDEST or len(numbers) > DEEPEST or (kind.endswith("ngp") and numbers[0] > DEEPEST):
        raise ParameterError(f"{option} {text}: too large: widths up to {WIDEST:,}, at most {DEEPEST} layers")
    return Spec(kind, numbers)
