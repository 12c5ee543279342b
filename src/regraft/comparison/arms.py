"""Which arms take part: the methods that are asked for, beside the one they are set against."""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.comparison.bench import Arm
from regraft.errors import ParameterError
from regraft.method import list_methods, resolve


def arms_of(
    family: str,
    methods: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    reference: str,
    *,
    able: Sequence[str] | None = None,
    shared: Mapping[str, Any] = {},
) -> tuple[Any, list[Arm]]:
    """The method called `reference`, and an arm for each other one of `methods` ("all": `able`, by default the whole family).

    `settings` are by method, `shared` those of all. Raises `ParameterError`: an unknown method, settings of one that takes no part.
    """
    names = list(dict.fromkeys(methods))
    if names == ["all"]:
        names = list(able) if able is not None else [cls.name for cls in list_methods(family)]
    names = [name.strip().lower().replace("_", "-") for name in names]
    if lost := [name for name in settings if name not in (*names, reference)]:
        raise ParameterError(f"--set {lost[0]}: that method is not compared")

    def made(name: str) -> Any:
        return resolve(family, name, {**shared, **settings.get(name, {})})

    return made(reference), [Arm(name, made(name)) for name in names if name != reference]
