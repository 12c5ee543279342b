"""What a shell completes: names of methods, families, tasks, data sets, reproductions, and recipes, each looked up when it is asked for."""

from collections.abc import Callable, Iterable
from pathlib import Path

Complete = Callable[[str], list[tuple[str, str]]]


def methods_of(family: str, *, listed: bool = False) -> Complete:
    """Completes a method's name with what it does; with `listed` the last of several with commas between them."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        from regraft.method.listing import list_cards

        before, comma, last = incomplete.rpartition(",") if listed else ("", "", incomplete)
        named = {row["method"]: row["summary"] for row in list_cards(family)} | ({"all": "every one"} if listed and not comma else {})
        return [(f"{before}{comma}{name}", about) for name, about in starting(last, named.items())]

    return complete


def families(incomplete: str) -> list[tuple[str, str]]:
    from regraft.method.registry import FAMILIES

    return starting(incomplete, ((family.key, family.summary) for family in FAMILIES.values()))


def tasks(incomplete: str) -> list[tuple[str, str]]:
    from regraft.tasks.labelled.examples import KINDS
    from regraft.tasks.labelled.named import NAMED

    own = [(kind, "your own, with --labels") for kind in KINDS]
    return starting(incomplete, [*own, *((name, kind) for name, (kind, _) in NAMED.items())])


def data_sets(incomplete: str) -> list[tuple[str, str]]:
    from regraft.datasets import data_sets

    return starting(incomplete, ((name, entry.note) for name, entry in data_sets().items()))


def reproductions(incomplete: str) -> list[tuple[str, str]]:
    from regraft.reproductions import available

    return starting(incomplete, ((name, "") for name in available()))


def recipes(incomplete: str) -> list[tuple[str, str]]:
    """YAML files, and folders to look into."""
    folder = Path(incomplete if incomplete.endswith("/") else Path(incomplete).parent)
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    named = [(f"{path}/" if path.is_dir() else str(path), "") for path in found if path.is_dir() or path.suffix in (".yaml", ".yml")]
    return starting(incomplete.removeprefix("./"), named)


def starting(beginning: str, named: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, about) for name, about in named if name.startswith(beginning)]
