"""Which faults do the tests catch? Plants one at a time in a copy of `src/` and runs the tests of its module.

    python scripts/planted_faults.py . ../before --seed 1 --count 20     the same faults in both trees; one will do

A fault is a comparison turned round or the right term of a sum or product dropped, in a function. It is known by the function's name, the
text of the expression and what is done to it, not by its file, so that trees whose files have moved compare. The choice is seeded and
spread over folders. The tests of a module are the test files that import it or, where none does, the nearest package above it.
"""

import argparse
import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

TURNED = {ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot,
          ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip


class Fault(NamedTuple):
    """What replaces `node`, as text."""

    file: Path
    node: ast.expr
    instead: str


def changed(node: ast.AST) -> str | None:
    """The text of `node` with a fault in it, if it is a place for one."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return ast.unparse(ast.Compare(node.left, [TURNED[type(node.ops[0])]()], node.comparators))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        kinds = {type(part.value if isinstance(part, ast.Constant) else part).__name__ for part in ast.walk(node)}
        return None if kinds & {"JoinedStr", "List", "Tuple", "Dict", "str"} else ast.unparse(node.left)  # these are joined, not added
    return None


def faults_in(root: Path) -> dict[str, list[Fault]]:
    """Every fault that `root` has room for, by what it is known by."""
    found: dict[str, list[Fault]] = defaultdict(list)

    def visit(node: ast.AST, name: str, inside: bool, file: Path) -> None:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            name, inside = f"{name}.{node.name}".strip("."), inside or isinstance(node, ast.FunctionDef)
        if inside and (instead := changed(node)) is not None:
            found[f"{name}: {ast.unparse(node)}  ->  {instead}"].append(Fault(file, node, instead))
        for child in ast.iter_child_nodes(node):
            visit(child, name, inside, file)

    for file in sorted(root.glob("src/regraft/**/*.py")):
        visit(ast.parse(file.read_bytes()), "", False, file)
    return found


def choose(trees: list[dict[str, list[Fault]]], seed: int, count: int, root: Path) -> list[str]:
    """Faults with one place in every tree, in turn from each folder of the first."""
    folders: dict[Path, list[str]] = defaultdict(list)
    rank = lambda key: hashlib.sha256(f"{seed} {key}".encode()).hexdigest()  # noqa: E731
    for key in sorted(set.intersection(*(set(tree) for tree in trees)), key=rank):
        if all(len(tree[key]) == 1 for tree in trees):
            folders[trees[0][key][0].file.parent.relative_to(root)].append(key)
    order = sorted(folders, key=lambda folder: rank(str(folder)))
    turns = [(turn, folder) for turn in range(max(map(len, folders.values()))) for folder in order if turn < len(folders[folder])]
    return [folders[folder][turn] for turn, folder in turns[:count]]


def tests_of(file: Path, root: Path) -> list[Path]:
    name = ".".join(file.relative_to(root / "src").with_suffix("").parts).removesuffix(".__init__")
    stem, known = name.rpartition(".")[2], defaultdict(list)
    for test in sorted(root.glob("tests/**/test_*.py"), key=lambda test: stem not in test.stem):  # the one of its name first
        for node in ast.walk(ast.parse(test.read_bytes())):
            module = getattr(node, "module", None)
            for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                for imported in (module, f"{module}.{alias.name}") if module else (alias.name,):
                    known[imported].append(test)
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return list(dict.fromkeys(known[name]))


def caught(fault: Fault, root: Path, timeout: float) -> str:
    """Plant `fault` in a copy of the sources and run the tests of its module there."""
    lines, node = fault.file.read_bytes().splitlines(keepends=True), fault.node  # `ast` counts columns in bytes
    before = b"".join(lines[: node.lineno - 1]) + lines[node.lineno - 1][: node.col_offset]
    after = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(root / "src", Path(folder) / "src")
        Path(folder, fault.file.relative_to(root)).write_bytes(before + f"({fault.instead})".encode() + after)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests_of(fault.file, root)]
        given = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(Path(folder) / "src")}
        try:
            code = subprocess.run(command, cwd=root, env=given, capture_output=True, timeout=timeout).returncode
        except subprocess.TimeoutExpired:
            return "timeout"
    return "survived" if code in (0, 5) else "caught"  # 5: no tests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=lambda text: Path(text).resolve())
    for option, value in (("--seed", 1), ("--count", 20), ("--timeout", 600)):
        parser.add_argument(option, type=int, default=value)
    given = parser.parse_args()
    trees, total = [faults_in(root) for root in given.roots], [0] * len(given.roots)
    chosen = choose(trees, given.seed, given.count, given.roots[0])
    for number, key in enumerate(chosen, 1):
        found = [caught(tree[key][0], root, given.timeout) for tree, root in zip(trees, given.roots, strict=True)]
        print(f"{number:3} {' | '.join(found)}  {trees[0][key][0].file.relative_to(given.roots[0])}  {key}", flush=True)
        total = [sum(pair) for pair in zip(total, (how == "caught" for how in found), strict=True)]
    print(f"caught of {len(chosen)}: {' | '.join(map(str, total))}")


if __name__ == "__main__":
    main()
