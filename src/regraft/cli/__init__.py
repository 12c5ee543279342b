"""The command line: one module a verb.

Results go to stdout, progress to stderr. Exit codes: 0 done, 2 bad input, 1 our fault, 130 Ctrl-C.
"""

from regraft.cli import (
    adapt,
    align,
    compare,
    data,
    demo,
    evaluate,
    export,
    methods,
    probe,
    recipes,
    reproduce,
    text,
    undo,
)  # each registers its verb with the app
from regraft.cli.app import app, main

__all__ = [
    "adapt",
    "align",
    "app",
    "compare",
    "data",
    "demo",
    "evaluate",
    "export",
    "main",
    "methods",
    "probe",
    "recipes",
    "reproduce",
    "text",
    "undo",
]
