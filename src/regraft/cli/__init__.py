"""The command line: one module a verb.

Results go to stdout, progress to stderr. Exit codes: 0 done, 2 bad input, 1 our fault, 130 Ctrl-C.
"""

from regraft.cli import (
    adapt,
    align,
    bias,
    compare,
    compare_tasks,
    concept,
    demo,
    evaluate,
    export,
    graph,
    grow,
    listing,
    probe,
    recipes,
    reproduce,
    tables,
    text,
    undo,
)  # each registers its verb with the app
from regraft.cli.app import app, main

__all__ = [
    "adapt",
    "align",
    "app",
    "bias",
    "compare",
    "compare_tasks",
    "concept",
    "demo",
    "evaluate",
    "export",
    "graph",
    "grow",
    "listing",
    "main",
    "probe",
    "recipes",
    "reproduce",
    "tables",
    "text",
    "undo",
]
