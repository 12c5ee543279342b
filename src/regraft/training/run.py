"""What a training did: what was read, what trained, and the curve; two runs on end as one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from regraft.training.adapters import SavedAdapters
from regraft.training.footprint import Footprint
from regraft.training.trainable import Group


@dataclass(frozen=True)
class CurvePoint:
    """Bits per byte after `step` steps, `seconds` of training (evaluation not counted) and `tokens` read."""

    step: int
    seconds: float
    tokens: int
    bits_per_byte: float


@dataclass
class TrainingRun:
    """What happened.

    Attributes
    ----------
    curve : what `on_evaluate` measured, first at step 0, last at the end.
    losses : bits per byte of the training text itself, as it was read, about a hundred points; masked tokens stand for all under "mlm".
    steps, tokens, bytes : steps done, tokens read, UTF-8 bytes of text they hold; all processes together.
    seconds : training time, without evaluation and packing.
    trainable_parameters, total_parameters, groups, footprint : what trained, and the memory it took.
    merged : what `on_evaluate` measured after adapters that trained beside quantized weights were merged into the full-precision ones; the
        last point of the curve was measured before. None without quantization.
    adapters : the trained adapters, or None.
    stopped : whether the time that it may take at most ended it, before its steps were done.
    """

    curve: list[CurvePoint] = field(default_factory=list)
    losses: list[CurvePoint] = field(default_factory=list)
    steps: int = 0
    tokens: int = 0
    bytes: float = 0.0
    seconds: float = 0.0
    trainable_parameters: int = 0
    total_parameters: int = 0
    groups: list[Group] = field(default_factory=list)
    footprint: Footprint | None = None
    merged: float | None = None
    adapters: SavedAdapters | None = field(default=None, repr=False)
    stopped: bool = False

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(replace(self, adapters=None))


def joined(runs: Sequence[TrainingRun]) -> TrainingRun:
    """Runs that followed on each other as one; what trained and the memory it took are those of the last.

    A later run's first point is where the one before ended, and is left out.
    """
    whole = runs[0]
    for run in runs[1:]:
        curve, losses = ([_later(point, whole) for point in points] for points in (run.curve[1:], run.losses))
        whole = replace(
            run,
            curve=[*whole.curve, *curve],
            losses=[*whole.losses, *losses],
            steps=whole.steps + run.steps,
            tokens=whole.tokens + run.tokens,
            bytes=whole.bytes + run.bytes,
            seconds=whole.seconds + run.seconds,
        )
    return whole


def _later(point: CurvePoint, before: TrainingRun) -> CurvePoint:
    return replace(point, step=before.steps + point.step, seconds=before.seconds + point.seconds, tokens=before.tokens + point.tokens)
