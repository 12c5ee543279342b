"""The house holds: no arrow goes up a floor, no family knows another, nothing goes in a circle, no folder or signature overflows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import regraft

SOURCE = Path(__file__).parent.parent / "src"
FAMILIES = {"vocab", "grow", "tables", "text", "graph", "bias", "multimodal", "code", "concepts", "align", "probe"}
FLOORS = [
    {"", "errors", "progress", "meter", "samples"},
    {"output", "method", "corpus", "report", "graft", "tokenizer"},
    {"datasets", "checkpoint"},
    {"language", "vectors", "provenance", "export"},
    {"training", "evaluation", "tasks"},
    {"comparison"},
    FAMILIES,
    {"reproductions", "demo"},
    {"cli", "studio", "recipe", "__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
MOST_FILES, MOST_PARAMETERS = 12, 12
LONG = {
    "regraft.vocab.adapt.adapt",
    "regraft.vocab.compare.compare",
    "regraft.vocab.k_tokeniser.tokeniser.__call__",  # as `transformers` calls a tokenizer
}
METHOD_FOLDERS = {  # one file a method, or all that belongs to one method
    "regraft.vocab.initializers",
    "regraft.vocab.k_tokeniser",
    "regraft.probe.probes",
    "regraft.bias.priors",
    "regraft.tables.embeddings",
    "regraft.text.encoders",
    "regraft.text.words.models",
    "regraft.reproductions",
}


def read_house(root=SOURCE):
    """Source text by the dotted name of its module; a package has the name of its folder."""
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in root.rglob("*.py")}
    return {name: path.read_text("utf-8") for path, name in names.items()}


def arrows(house):
    """Which modules each module imports, lazily or for types too."""
    found = {}
    for name, text in house.items():
        asked = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                asked |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                asked |= {full if (full := f"{node.module}.{alias.name}") in house else node.module for alias in node.names}
        found[name] = {one for one in asked if one in house} - {name}
    return found


def room(name):
    return [*name.split("."), ""][1]


def upward(house):
    return [(a, b) for a, to in arrows(house).items() for b in to if FLOOR[room(b)] > FLOOR[room(a)]]


def between_families(house):
    found = ((a, b) for a, to in arrows(house).items() for b in to)
    return [(a, b) for a, b in found if {room(a), room(b)} <= FAMILIES and room(a) != room(b)]


def circles(house):
    """What is left when modules that import nothing left, or that nothing left imports, are taken away, again and again."""
    left = arrows(house)
    while free := [n for n, to in left.items() if not to & left.keys() or not any(n in other for other in left.values())]:
        for name in free:
            del left[name]
    return sorted(left)


def overfull(house):
    packages = {name.rpartition(".")[0] for name in house}
    loose = {p: [n for n in house if n.rpartition(".")[0] == p and n not in packages] for p in packages - METHOD_FOLDERS}
    return [folder for folder, files in loose.items() if len(files) > MOST_FILES]


def overlong(house):
    """Functions with more than twelve parameters, without `self`."""
    found = []
    for name, text in house.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                given = node.args
                named = [one.arg for one in [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg] if one]
                if len([one for one in named if one not in ("self", "cls")]) > MOST_PARAMETERS:
                    found.append(f"{name}.{node.name}")
    return sorted(set(found) - LONG)


RULES = [upward, between_families, circles, overfull, overlong]


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(rule):
    assert not rule(read_house())


PLANTED = {
    upward: {"regraft.graft.planted": "def f():\n    from regraft.training import Training"},
    between_families: {"regraft.grow": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import regraft.vocab.adapt"},
    circles: {"regraft.corpus.a": "from regraft.corpus import b", "regraft.corpus.b": "def f():\n    import regraft.corpus.a"},
    overfull: {f"regraft.report.planted{number}": "" for number in range(MOST_FILES)},
    overlong: {"regraft.report.planted": f"def f({', '.join(f'p{number}' for number in range(MOST_PARAMETERS + 1))}): ..."},
}


@pytest.mark.parametrize("rule", RULES)
def test_a_planted_fault_is_found(rule):
    assert rule(read_house() | PLANTED[rule])


def test_every_room_has_a_floor():
    assert {room(name) for name in read_house()} <= FLOOR.keys()


@pytest.mark.parametrize("module", ["torch", "pydantic", "transformers"])
def test_the_command_line_starts_light(module):
    code = f"import sys, regraft.cli; sys.exit('{module}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_face_is_loaded_when_it_is_asked_for():
    code = "import sys, regraft; before = 'torch' in sys.modules; regraft.Graft; sys.exit(before or 'torch' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert all(callable(getattr(regraft, name)) for name in regraft.__all__)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        regraft.nothing_of_the_kind  # noqa: B018


def test_the_names_of_test_files_differ():
    """pytest imports them by their names alone, and leaves out the second of two."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
