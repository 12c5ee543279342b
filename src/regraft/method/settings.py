"""Hyper-parameters of a method: which there are, and an instance of checked ones.

Enters: a class with a card, and settings by name. Leaves: `configure(ZipTie, {"norm": "match_script"})`, or one line that names the field,
the value and what it accepts. Our own methods are frozen pydantic dataclasses; of a host library's class the signature is read.
"""

import dataclasses
import inspect
from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, dataclass_transform, get_type_hints

from pydantic import ConfigDict, Field, ValidationError, create_model
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo

from regraft.errors import ParameterError
from regraft.method.card import Described

T = TypeVar("T")
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Method(Described, ABC):
    """Base of every method that is ours alone. A subclass is made a frozen, keyword-only pydantic dataclass when it is defined."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(cls)

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """Hyper-parameters and their defaults, in the order of the paper's file."""
        return parameters(cls)


def parameters(cls: type) -> dict[str, Any]:
    """Hyper-parameters and their defaults, in order: a dataclass's fields, else what ``__init__`` takes by name and need not be given."""
    if dataclasses.is_dataclass(cls):
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        return {name: value.default if isinstance(value, FieldInfo) else value for name, value in defaults.items()}
    return {name: given.default for name, given in _taken(cls).items() if given.default is not inspect.Parameter.empty}


def configure(cls: type[T], settings: Mapping[str, Any]) -> T:
    """`cls(**settings)` with errors that name the field, the value and what it accepts. Raises `ParameterError`."""
    ours = dataclasses.is_dataclass(cls)
    return _refused(cls, settings, lambda given: cls(**(given if ours else _checked(cls, given))))


def accepted(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` of a class that is no dataclass, checked and of the right types, before one is made. Raises `ParameterError`."""
    return _refused(cls, settings, lambda given: _checked(cls, given))


def _refused(cls: type, settings: Mapping[str, Any], make: Callable[[Mapping[str, Any]], T]) -> T:
    """What `make` makes of `settings`; where pydantic refuses one, a `ParameterError` that says so in one line."""
    known = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else list(_taken(cls))
    name = getattr(cls, "name", cls.__name__)
    for field in settings:
        if field not in known:
            accepts = f"it accepts {', '.join(known)}" if known else "it has no parameters"
            raise ParameterError(f"{name} has no parameter '{field}': {accepts}")
    try:
        return make(settings)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "?"
        if first["type"] == "missing":
            raise ParameterError(f"{name} needs '{field}': set it with --set {field}=value") from None
        if settings.get(field) == "none":  # not a word that this field knows: then it means no value
            return _refused(cls, {**settings, field: None}, make)
        raise ParameterError(f"{name}: {field}={settings.get(field)!r} is not accepted: {first['msg'].lower()}") from None


def _taken(cls: type) -> dict[str, inspect.Parameter]:
    """What the constructor of a class that is no dataclass takes by name."""
    if cls.__init__ is object.__init__:  # type: ignore[misc]  # asked of the class, not of an instance
        return {}
    given = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return {one.name: one for one in given if one.kind in NAMED and one.name != "self"}


def _checked(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` as the annotations of the constructor say, by pydantic."""
    hints = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), Field(... if given.default is inspect.Parameter.empty else None))
        for name, given in _taken(cls).items()
    }
    config = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=())
    checked = create_model(cls.__name__, __config__=config, **fields)(**settings)
    return {name: getattr(checked, name) for name in settings}
