"""Pages that mkdocs-gen-files makes while building, from what there is.

README becomes the first page; a page a method comes from its docstring; commands from their help; the Python page lists what users call and
what a method derives from; and the table of reproductions has every claim.
"""

import inspect
import re
from pathlib import Path
from typing import Any

import mkdocs_gen_files
import typer

import regraft
from regraft.cli import app
from regraft.method import FAMILIES, Described, list_methods, parameters
from regraft.reproductions import results_table

ROOT = Path(__file__).parent.parent
EDGES = {"docs/": "", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def write(path: str, text: str) -> None:
    with mkdocs_gen_files.open(path, "w") as file:
        file.write(text.rstrip() + "\n")


def moved(page: str) -> str:
    """A page of the checkout's root as one of the documentation: links into `docs/` are its own, links to other files are plain text."""

    def link(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        for old, new in EDGES.items():
            if target.startswith(old):
                return f"{mark}[{text}]({new}{target.removeprefix(old)})"
        return found[0] if target.startswith(("http", "#")) else text

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", link, page)


def page(cls: type[Described]) -> str:
    """A method's page: summary, citation, how to call it, parameters, and the docstring with its equations."""
    paper = cls.paper
    cite = f"{paper.authors} ({paper.year}). *{paper.title}*."
    lines = [f"# {cls.name}", "", cls.summary.capitalize() + ".", "", f"Source: {cite} {f'<{paper.link}>' if paper.link else ''}", ""]
    lines += ["```sh", FAMILIES[cls.family].example.format(name=cls.name), "```", ""]
    if known := parameters(cls):
        lines += ["| parameter | default |", "|---|---|", *(f"| `{name}` | `{value}` |" for name, value in known.items()), ""]
    return "\n".join([*lines, markdown(inspect.cleandoc(cls.__doc__ or "")), ""])


def markdown(docstring: str) -> str:
    """Roles and section underlines of a numpydoc text as Markdown."""
    text = re.sub(r":math:`([^`]+)`", r"\\(\1\\)", docstring)
    text = re.sub(r"^(\w[\w ]+)\n-{3,}$", r"### \1\n", text, flags=re.MULTILINE)
    return re.sub(r"^([\w, ]+) : (.+)$", r"- `\1`: \2", text, flags=re.MULTILINE)


def commands(command: Any, name: str) -> list[str]:
    """A section for each command below `command`: what it does, and its options in the panels of its help."""
    if hasattr(command, "commands"):
        found = [] if name == "regraft" else [f"## {name}", "", command.help or "", ""]
        for child in command.list_commands(None):
            found += commands(command.commands[child], f"{name} {child}")
        return found
    panels: dict[str, list[str]] = {}
    for one in command.params:
        if getattr(one, "hidden", False) or one.name == "help":
            continue
        options = isinstance(one.opts[0], str) and one.opts[0].startswith("-")
        shown = ", ".join(f"`{opt}`" for opt in [*one.opts, *one.secondary_opts]) if options else f"`{one.metavar or one.name}`"
        said = " ".join((getattr(one, "help", None) or "").split()).replace("|", "\\|")
        default = f" Default: {one.default}." if isinstance(one.default, str | int | float) and not isinstance(one.default, bool) else ""
        panels.setdefault(getattr(one, "rich_help_panel", None) or "", []).append(f"| {shown} | {said}{default} |")
    lines = [f"## {name}", "", inspect.cleandoc(command.help or ""), ""]
    for panel, rows in panels.items():
        lines += [f"**{panel}**", ""] if panel else []
        lines += ["| | |", "|---|---|", *rows, ""]
    return lines


def bases() -> list[str]:
    """The classes that methods derive from, one a family."""
    found = []
    for key, family in FAMILIES.items():
        base = next(cls for cls in next(list_methods(key)).__mro__ if cls.__name__ == family.base)
        found.append(f"{base.__module__}.{base.__qualname__}")
    return found


def called() -> list[str]:
    """What `from regraft import ...` offers, by the places where it is written."""
    return [f"{(found := getattr(regraft, name)).__module__}.{found.__qualname__}" for name in regraft.__all__]


write("index.md", moved((ROOT / "README.md").read_text("utf-8")))
write("contributing.md", moved((ROOT / "CONTRIBUTING.md").read_text("utf-8")))
write("changelog.md", moved((ROOT / "CHANGELOG.md").read_text("utf-8")))
write("commands.md", "\n".join(["# Commands", "", *commands(typer.main.get_command(app), "regraft")]))

lines = ["# Methods", "", "`regraft methods` lists the same on a terminal."]
for key, family in FAMILIES.items():
    lines += ["", f"## {key.capitalize()}s: {family.summary}", "", "| method | what it does | paper |", "|---|---|---|"]
    for method in list_methods(key):
        lines.append(f"| [{method.name}]({key}/{method.name}.md) | {method.summary} | {method.paper.authors} {method.paper.year} |")
        write(f"methods/{key}/{method.name}.md", page(method))
write("methods/index.md", "\n".join(lines))

listed = ["# Python", "", "## What you call", "", "Each can be imported from `regraft` itself: `from regraft import adapt`.", ""]
listed += [line for name in called() for line in (f"::: {name}", "")]
listed += ["## What a method derives from", ""] + [line for name in bases() for line in (f"::: {name}", "")]
listed += ["## Reports", "", "::: regraft.report.page.Report", "    options:", "      members: true"]
write("api.md", "\n".join(listed))

write(
    "reproductions.md",
    "# Every claim\n\nEach paper's claim, tested again on real data; `regraft reproduce METHOD` runs one.\n\n" + results_table(),
)
