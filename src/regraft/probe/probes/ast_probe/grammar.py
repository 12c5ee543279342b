"""Trees of source code, by tree-sitter's grammars: one interface for every language.

Enters: source text. Leaves: its functions, each as a `Tree` of tokens without comments and docstrings, or the reason why it was skipped.
A function's tree stands below the grammar's root, as if it had been parsed alone.
"""

import ast
import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from regraft.errors import ParameterError
from regraft.probe.probes.ast_probe.encoding import Tree

NO_GRAMMAR = "tree-sitter finds errors in it"
NO_PYTHON = "Python itself refuses it"
NO_FUNCTION = "file in which tree-sitter finds errors and no function"


@dataclass(frozen=True)
class Language:
    """A programming language: the wheel with its grammar, what its files end in, and the nodes that are functions."""

    name: str
    package: str
    endings: tuple[str, ...]
    functions: tuple[str, ...]


LANGUAGES = {
    one.name: one
    for one in (
        Language("python", "tree-sitter-python", (".py",), ("function_definition",)),
        Language(
            "javascript",
            "tree-sitter-javascript",
            (".js", ".mjs", ".cjs"),
            ("function_declaration", "generator_function_declaration", "method_definition"),
        ),
        Language("go", "tree-sitter-go", (".go",), ("function_declaration", "method_declaration")),
    )
}


@dataclass(frozen=True)
class Function:
    """A function of a file: its tree, or None and the reason why it has none."""

    tree: Tree | None
    skipped: str = ""


class Grammar:
    """The grammar of `language`, one of `LANGUAGES`. Raises `ParameterError` for another, or where its wheel is not installed."""

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise ParameterError(f"--language {language}: choose one of {', '.join(LANGUAGES)}")
        self.language = LANGUAGES[language]
        self._parser = _parser(self.language.package)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the parser and the grammar: others may name nodes differently."""
        return {package: version(package) for package in ("tree-sitter", self.language.package)}

    def tree(self, source: str) -> Tree | None:
        """The tree of a whole text; None where the grammar finds errors or nothing but comments."""
        root = self._parser.parse(source.encode()).root_node
        return None if root.has_error else _tree(root)

    def functions(self, source: str) -> Iterator[Function]:
        """Every function of a file in order, those inside others too."""
        data = source.encode()
        root = self._parser.parse(data).root_node
        refuses = self.language.name == "python" and not _python_reads(source)
        pending, any_ = [root], False
        while pending:
            node = pending.pop()
            pending.extend(reversed(node.children))
            if node.type not in self.language.functions:
                continue
            any_ = True
            if node.has_error:
                yield Function(None, NO_GRAMMAR)
            elif refuses and not _python_reads(_alone(node, data)):
                yield Function(None, NO_PYTHON)
            elif (found := _tree(node)) is not None:
                yield Function(Tree(root.type, (found,)))
        if root.has_error and not any_:
            yield Function(None, NO_FUNCTION)


@cache
def _parser(package: str) -> Any:
    try:
        tree_sitter, grammar = (importlib.import_module(name.replace("-", "_")) for name in ("tree-sitter", package))
    except ModuleNotFoundError as error:
        raise ParameterError(
            f"parsing code needs the package '{(error.name or package).replace('_', '-')}': pip install 'regraft[code]'"
        ) from None
    return tree_sitter.Parser(tree_sitter.Language(grammar.language()))


def _tree(top: Any) -> Tree | None:
    """A node of the parser as a tree: strings are one token, comments, docstrings and white space are none."""
    open_: list[tuple[Any, list[Tree | str]]] = [(None, [])]
    pending: list[tuple[Any, bool]] = [(top, False)]
    while pending:
        node, seen = pending.pop()
        if seen:
            _, children = open_.pop()
            if children:
                open_[-1][1].append(Tree(node.type, tuple(children)))
        elif node.child_count == 0 or (node.is_named and _is_string(node.type)):
            if (text := node.text.decode("utf-8", "replace")).strip():
                open_[-1][1].append(text)
        else:
            open_.append((node, []))
            pending.append((node, True))
            pending.extend((child, False) for child in reversed(node.children) if not (child.is_extra or _is_docstring(child)))
    if not open_[0][1]:
        return None
    (found,) = open_[0][1]
    return Tree(top.type, (found,)) if isinstance(found, str) else found


def _is_string(kind: str) -> bool:
    return kind == "string" or kind.endswith("string_literal")


def _is_docstring(node: Any) -> bool:
    """Whether a statement of Python is a string that opens a module, or the body of a class or function."""
    if node.type != "expression_statement" or [child.type for child in node.children] not in (["string"], ["concatenated_string"]):
        return False
    before = node.prev_sibling
    while before is not None and before.is_extra:
        before = before.prev_sibling
    body = node.parent
    owner = body.parent.type if body.type == "block" and body.parent is not None else body.type
    return before is None and owner in ("module", "class_definition", "function_definition")


def _python_reads(source: str) -> bool:
    """Whether Python's own parser takes the text: tree-sitter takes more, such as a stray indent or ``x = 08``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def _alone(node: Any, data: bytes) -> str:
    """The text of a function as a program of its own: below a condition where it is indented."""
    line = data.rfind(b"\n", 0, node.start_byte) + 1
    indent = data[line : node.start_byte]
    text: str = (indent + node.text).decode("utf-8", "replace")
    return ("if 1:\n" if indent else "") + text + "\n"
