"""Progress on stderr: one place decides how long work reports itself, so that stdout stays free for results and `--json`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, soft_wrap=True)
_active: list[Progress] = []


class Bar:
    """One long step. `advance(n)` moves it; `say(text)` sets the note at its right end (speed, loss)."""

    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._task, amount)  # type: ignore[arg-type]

    def update(self, completed: float, total: float | None = None) -> None:
        self._progress.update(self._task, completed=completed, total=total)  # type: ignore[arg-type]

    def say(self, note: str) -> None:
        self._progress.update(self._task, note=note)  # type: ignore[arg-type]


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
        progress = Progress(*columns, console=console, transient=not console.is_terminal, disable=not console.is_terminal)
        _active.append(progress)
        progress.start()
    progress = _active[-1]
    task = progress.add_task(description, total=total, note="")
    try:
        yield Bar(progress, task)
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
