"""The `regraft` command and what every verb shares: options, errors, exit codes, JSON."""

import copy
import dataclasses
import functools
import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperGroup

from regraft import __version__
from regraft.errors import InputError, RegraftError
from regraft.progress import console

FIRST = ("demo", "adapt", "compare", "compare-tasks", "evaluate", "align", "probe")  # the most used first; others as they come
MACHINE = "Machine"


class Commands(TyperGroup):
    """The root command: wrong usage is one line on stderr and exit code 2, like every other bad input."""

    def list_commands(self, ctx: Any) -> list[str]:
        known = super().list_commands(ctx)
        return sorted(known, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        standalone, kwargs["standalone_mode"] = kwargs.get("standalone_mode", True), False
        if not standalone:
            return super().main(*args, **kwargs)
        try:
            sys.exit(super().main(*args, **kwargs) or 0)
        except Exception as error:  # typer brings its own copy of click, older ones do not: known by what they can do
            if not hasattr(error, "format_message"):
                raise
            if "NoArgsIsHelp" in type(error).__name__:
                error.show()  # type: ignore[attr-defined]  # the help itself
            else:
                context = getattr(error, "ctx", None)
                asked = context.command_path if context is not None else "regraft"
                print_error(f"{error.format_message().rstrip('.')} (see `{asked} --help`)")
            sys.exit(2)


app = typer.Typer(
    cls=Commands,
    help="Give a trained model what it was not born with, without pre-training it again, and measure what that cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

F = TypeVar("F", bound=Callable[..., Any])
Workers = Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes all cores.", rich_help_panel=MACHINE)]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.", rich_help_panel=MACHINE)]


GROUPED: dict[str, Callable[..., Any]] = {}  # "align fit" -> the command of a verb in a group
PATHS: dict[typer.Typer, str] = {}  # of groups, as they are called: "graph facts"


def command_group(name: str, help: str, parent: typer.Typer | None = None) -> typer.Typer:
    """A group of verbs, such as `regraft recipe`, or within another one; its verbs are registered with `verb(group=...)`."""
    group = typer.Typer(name=name, help=help, no_args_is_help=True)
    (parent or app).add_typer(group, name=name)
    PATHS[group] = name if parent is None else f"{PATHS[parent]} {name}"
    return group


def verb(name: str | None = None, *, group: typer.Typer | None = None) -> Callable[[F], F]:
    """Register a command, of the root or of a `command_group`.

    It returns a JSON-ready object (printed with --json) or None; errors become one line and an exit code. Groups of options that it takes
    (see `options`) become options of their own, in the panel of the help that the group's `panel` names.
    """

    def register(command: F) -> F:
        @functools.wraps(command)
        def run(**kwargs: Any) -> None:
            debug, as_json = kwargs.pop("debug", False), kwargs.get("json_output", False)
            set_threads(kwargs.pop("workers", 0))
            try:
                with terminable():
                    result = call(command, kwargs)
            except Terminated:
                stop("terminated; nothing half-written was left", 143, debug)
            except KeyboardInterrupt:
                stop("interrupted; nothing half-written was left", 130, debug)
            except RegraftError as error:
                stop(str(error), error.exit_code, debug)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; say nothing more at exit
                raise typer.Exit(1) from None
            except Exception as error:
                stop(f"internal error: {type(error).__name__}: {error} (run again with --debug for a traceback)", 1, debug)
            else:
                if as_json:
                    print(json.dumps(result, ensure_ascii=False, allow_nan=False))

        shared = {"workers": (Workers, 0), "debug": (Debug, False)}
        extra = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=a) for n, (a, d) in shared.items()]
        known = [*unfolded(command), *extra]
        run.__signature__ = inspect.Signature(known)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in known}
        (group or app).command(name)(run)
        if group is not None:
            GROUPED[f"{PATHS[group]} {name or command.__name__.replace('_', '-')}"] = command
        return command

    return register


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers and shells send it: what Ctrl-C cleans up, this does too."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` meanwhile, in this process alone; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own, before = os.getpid(), signal.getsignal(signal.SIGTERM)

    def raised(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != own:  # a worker that was forked meanwhile
            os.kill(os.getpid(), number)
        raise Terminated

    signal.signal(signal.SIGTERM, raised)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def unfolded(command: Callable[..., Any]) -> list[inspect.Parameter]:
    """The options of a command, one by one and keyword-only: those of a group stand where the group does, under its `panel`."""
    found = []
    for parameter in inspect.signature(command).parameters.values():
        group = parameter.annotation
        if not dataclasses.is_dataclass(group):
            found.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(group, include_extras=True)
        for field in dataclasses.fields(group):
            default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
            shown = _shown(hints[field.name], getattr(group, "panel", None), getattr(group, "hidden", False))
            found.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=shown))
    return found


def _shown(annotation: Any, panel: str | None, hidden: bool) -> Any:
    """The annotation of an option with `panel` of the help, unless it names one itself, or left out of the help."""
    base, *about = get_args(annotation)
    for place, said in enumerate(about):
        if isinstance(said, typer.models.ParameterInfo):
            about[place] = said = copy.copy(said)
            said.rich_help_panel, said.hidden = said.rich_help_panel or panel, said.hidden or hidden
    return Annotated[(base, *about)]


def call(command: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """`command` with options by name, each in the group that it belongs to.

    Raises `InputError` where a package is missing that the extra of the verb's family brings.
    """
    left, arguments = dict(given), {}
    for parameter in inspect.signature(command).parameters.values():
        group = parameter.annotation
        if dataclasses.is_dataclass(group):
            fields = [field.name for field in dataclasses.fields(group)]
            arguments[parameter.name] = group(**{name: left.pop(name) for name in fields if name in left})  # type: ignore[operator]  # a class
        elif parameter.name in left:
            arguments[parameter.name] = left.pop(parameter.name)
    try:
        return command(**arguments, **left)
    except ModuleNotFoundError as error:
        family = next((name.split()[0] for name, known in GROUPED.items() if known is command), None)
        missing = (error.name or "regraft").split(".")[0]
        if family is None or missing == "regraft":
            raise
        raise InputError(f"{family}: needs the package '{missing}', which is not installed: pip install 'regraft[{family}]'") from None


def stop(message: str, code: int, debug: bool) -> None:
    """Print one line (and the traceback under --debug) and leave with `code`."""
    if debug:
        traceback.print_exc()
    print_error(message)
    raise typer.Exit(code)


def print_error(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    console.print(f"regraft: {' '.join(message.split())}", style="bold red", highlight=False, markup=False, soft_wrap=True)


def set_threads(workers: int) -> None:
    """Limit PyTorch's and the tokenizers' threads; 0 leaves the libraries' own choice."""
    if workers:
        os.environ["RAYON_NUM_THREADS"] = str(workers)
        import torch

        torch.set_num_threads(workers)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"regraft {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Give a trained model what it was not born with, without pre-training it again, and measure what that cost."""


def main() -> None:
    """Entry point of the `regraft` command."""
    app()
