"""Progress on stderr: one place decides how long work reports itself, so that stdout stays free for results and `--json`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, soft_wrap=True)
_active: list[Progress] = []
SILENCE = 20.0  # seconds between lines where there is no terminal


class Bar:
    """One long step. `advance(n)` moves it; `say(text)` sets the note at its right end (speed, loss).

    Where stderr is no terminal, there is a line now and then in the bar's place.
    """

    def __init__(self, progress: Progress, task: TaskID, unit: str) -> None:
        self._progress, self._task, self._unit = progress, task, unit
        self._next = time.monotonic() + SILENCE

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._task, amount)
        self._log()

    def update(self, completed: float, total: float | None = None) -> None:
        self._progress.update(self._task, completed=completed, total=total)
        self._log()

    def say(self, note: str) -> None:
        self._progress.update(self._task, note=note)

    def _log(self) -> None:
        if console.is_terminal or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SILENCE
        task = next(one for one in self._progress.tasks if one.id == self._task)
        done = (
            f"{task.completed:,.0f}" + ("" if task.total is None else f" of {task.total:,.0f}") + (f" {self._unit}" if self._unit else "")
        )
        left = ""
        if task.total and task.completed:
            left = f", about {(task.total / task.completed - 1) * (task.elapsed or 0):,.0f} s left"
        note = f", {task.fields['note']}" if task.fields["note"] else ""
        console.print(f"{task.description}: {done}{left}{note}", style="dim", highlight=False, markup=False)


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
