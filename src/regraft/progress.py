"""Progress on stderr: one place decides how long work reports itself, so that stdout stays free for results and `--json`.

A terminal gets bars. A file (a log) gets a line now and then, with how much is done and about how long the rest takes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, soft_wrap=True)
EVERY = 15.0  # seconds between a step's lines in a log
_active: list[Progress] = []


class Bar:
    """One long step. `advance(n)` moves it; `say(text)` sets the note at its right end (speed, loss)."""

    def __init__(self, progress: Progress, task: TaskID, unit: str) -> None:
        self._progress, self._task, self._unit = progress, progress.tasks[progress.task_ids.index(task)], unit
        self._started = self._told = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._task.id, amount)
        self._log()

    def update(self, completed: float, total: float | None = None) -> None:
        self._progress.update(self._task.id, completed=completed, total=total)
        self._log()

    def say(self, note: str) -> None:
        self._progress.update(self._task.id, note=note)

    def _log(self) -> None:
        """Where no bar is drawn, one line every `EVERY` seconds."""
        now = time.monotonic()
        if not self._progress.disable or now - self._told < EVERY:
            return
        self._told = now
        done, total, note = self._task.completed, self._task.total, self._task.fields["note"]
        whole = "" if total is None else f" of {total:,.4g}" if total < 1000 else f" of {total:,.0f}"
        left = "" if not total or not done else f", about {_lasting((now - self._started) * (total / done - 1))} left"
        said = f"  {self._task.description}: {done:,.4g}{whole} {self._unit}".rstrip()
        console.print(f"{said}{left}{f' ({note})' if note else ''}", style="dim", highlight=False, markup=False)


def _lasting(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextmanager
def progress_bar(description: str, total: float | None = None, unit: str = "") -> Iterator[Bar]:
    """A bar with elapsed and remaining time; nested calls share one display. `total=None` shows a pulse."""
    outermost = not _active
    if outermost:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        progress = Progress(*columns, console=console, disable=not console.is_terminal)
        _active.append(progress)
        progress.start()
    progress = _active[-1]
    task = progress.add_task(description, total=total, note="")
    try:
        yield Bar(progress, task, unit)
    finally:
        if outermost:
            progress.stop()
            _active.pop()


@contextmanager
def step(description: str) -> Iterator[None]:
    """Announce a step on stderr and, when it ends, how long it took."""
    console.print(f"[bold]{description}[/bold] …", highlight=False)
    start = time.perf_counter()
    yield
    console.print(f"  done in {time.perf_counter() - start:.1f} s", style="dim", highlight=False)
