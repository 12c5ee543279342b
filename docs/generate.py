"""Pages that mkdocs-gen-files makes while building: one a method, from its docstring, and the table of reproductions."""

import inspect
import re

import mkdocs_gen_files

from regraft.method import FAMILIES, Described, list_methods, parameters
from regraft.reproductions import results_table


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


with mkdocs_gen_files.open("methods/index.md", "w") as index:
    for family in FAMILIES:
        index.write(f"# {family.capitalize()}s\n\n| method | what it does | paper |\n|---|---|---|\n")
        for method in list_methods(family):
            index.write(f"| [{method.name}]({family}/{method.name}.md) | {method.summary} | {method.paper.authors} {method.paper.year} |\n")
            with mkdocs_gen_files.open(f"methods/{family}/{method.name}.md", "w") as file:
                file.write(page(method))

with mkdocs_gen_files.open("reproductions.md", "w") as file:
    file.write(
        f"# Reproductions\n\nEach paper's claim, tested again on real data; `regraft reproduce METHOD` runs one.\n\n{results_table()}"
    )
