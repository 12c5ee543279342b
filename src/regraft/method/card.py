"""What a method says of itself, and what a family of methods is.

`Described` goes on any class: our own dataclasses (`Method`), or a type of the host library, such as an estimator, a module, a metric.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
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


@dataclass(frozen=True, kw_only=True)
class Family:
    """Methods that can take each other's place.

    Attributes
    ----------
    key : what `regraft methods --family` and `resolve` call it, and what messages call one of its methods.
    module : the folder with one module a method, below `regraft`.
    base : the class in that folder from which every method derives.
    summary : one line.
    example : a call on the command line, with ``{name}`` where the method's name belongs.
    """

    key: str
    module: str
    base: str
    summary: str
    example: str


class Described:
    """A class with a card. It adds nothing but class attributes, so that it goes beside any base that a host library asks for.

    Attributes
    ----------
    name : the slug; by default the class name in kebab case.
    family : the `Family.key`.
    paper : where the method comes from.
    summary : one line.
    needs : what the user must give beside the usual, by name.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    paper: ClassVar[Paper]
    summary: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()
