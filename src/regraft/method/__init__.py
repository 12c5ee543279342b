"""What a method is: a card that any class can carry, checked settings, and one registry that finds it by name.

Loaded on first use: reading the command line needs none of it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regraft.method.card import Described, Family, Paper
    from regraft.method.registry import FAMILIES, list_methods, members, resolve
    from regraft.method.settings import Method, configure, parameters
    from regraft.method.settings_text import parse_budget, parse_settings

__all__ = [
    "FAMILIES",
    "Described",
    "Family",
    "Method",
    "Paper",
    "configure",
    "list_methods",
    "members",
    "parameters",
    "parse_budget",
    "parse_settings",
    "resolve",
]
_HOMES = {
    "Described": "card",
    "Family": "card",
    "Paper": "card",
    "Method": "settings",
    "configure": "settings",
    "parameters": "settings",
    "FAMILIES": "registry",
    "list_methods": "registry",
    "members": "registry",
    "resolve": "registry",
    "parse_budget": "settings_text",
    "parse_settings": "settings_text",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
