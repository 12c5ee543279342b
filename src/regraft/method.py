"""What a method is: a frozen record of the paper's hyper-parameters, found by name in its family.

Enters: subclasses of `Method`, one a file. Leaves: `resolve("initializer", "zip-tie", {"norm": "match_script"})`, an instance with checked
fields, and `list_methods()`, from which the command line and the documentation draw their tables.
"""

import dataclasses
import difflib
import importlib
import inspect
import re
from abc import ABC
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, TypeVar, dataclass_transform

import yaml
from class_resolver import ClassResolver
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from regraft.errors import ParameterError

# family -> (module that imports every member, name of the base class in it)
FAMILIES: dict[str, tuple[str, str]] = {
    "initializer": ("regraft.vocab.initializers", "Initializer"),
}


@dataclasses.dataclass(frozen=True)
class Paper:
    """A citation. `title`, `authors` ("First et al."), `year`, and where to read it (`arxiv` id or `url`)."""

    title: str
    authors: str
    year: int
    arxiv: str | None = None
    url: str | None = None

    @property
    def link(self) -> str | None:
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url


T = TypeVar("T", bound="Configurable")


class Configurable(Protocol):
    """A pydantic dataclass with a name."""

    name: ClassVar[str]

    def __init__(self, **settings: Any) -> None: ...


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Method(ABC):
    """Base of every method. A subclass is made a frozen, keyword-only pydantic dataclass when it is defined.

    Class attributes: `name` (the slug; by default the class name in kebab case), `family`, `paper`, `summary` (one line).
    """

    name: ClassVar[str]
    family: ClassVar[str]
    paper: ClassVar[Paper]
    summary: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()
        pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(cls)

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """Hyper-parameters and their defaults, in the order of the paper's file."""
        return {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # made a dataclass above


def family_resolver(family: str) -> ClassResolver[Any]:
    """The `ClassResolver` of one family; imports the family's modules on first use."""
    if family not in FAMILIES:
        raise ParameterError(f"unknown family '{family}': choose one of {', '.join(FAMILIES)}")
    module, base = FAMILIES[family]
    return ClassResolver.from_subclasses(getattr(importlib.import_module(module), base), skip=_abstract(module, base))


def resolve(family: str, name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """Build the method called `name` with `settings`.

    Raises `ParameterError`: unknown name (with the nearest ones), unknown field, or a value the field refuses.
    """
    members = {cls.name: cls for cls in family_resolver(family)}
    slug = name.strip().lower().replace("_", "-")
    if slug not in members:
        near = difflib.get_close_matches(slug, members, n=3, cutoff=0.4) or sorted(members)
        raise ParameterError(f"unknown {family} '{name}': did you mean {' or '.join(near)}? `regraft methods` lists all of them")
    return configure(members[slug], settings or {})


def configure(cls: type[T], settings: Mapping[str, Any]) -> T:
    """`cls(**settings)` with errors that name the field, the value and what it accepts."""
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]  # every method is a dataclass
    for field in settings:
        if field not in known:
            accepts = f"it accepts {', '.join(known)}" if known else "it has no parameters"
            raise ParameterError(f"{cls.name} has no parameter '{field}': {accepts}")
    try:
        return cls(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "?"
        if settings.get(field) == "none":  # not a word that this field knows: then it means no value
            return configure(cls, {**settings, field: None})
        raise ParameterError(f"{cls.name}: {field}={settings.get(field)!r} is not accepted: {first['msg'].lower()}") from None


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`["c=1e-4", "norm=none"]` -> `{"c": 1e-4, "norm": "none"}`; values are read as YAML.

    Raises `ParameterError` for a pair without a field or a value that is not YAML.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.strip():
            raise ParameterError(f"--set {pair}: write it as field=value")
        settings[key.strip()] = parse_value(pair, value.strip())
    return settings


def parse_value(pair: str, value: str) -> Any:
    """The value of one `--set` pair."""
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value):  # YAML 1.1 reads 1e-5 as a string
        return float(value)
    if value.lower() == "none":
        return "none"
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise ParameterError(f"--set {pair}: the value is not YAML: quote it, or write a number, a word, true, false or [a, b]") from None


def list_methods(family: str | None = None) -> Iterator[type[Method]]:
    """Every method, family by family, by name."""
    for name in [family] if family else FAMILIES:
        yield from sorted(family_resolver(name), key=lambda cls: cls.name)


def _abstract(module: str, base: str) -> set[type]:
    root = getattr(importlib.import_module(module), base)
    pending, found = [root], set()
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        if inspect.isabstract(cls):
            found.add(cls)
    return found
