"""Settings and budgets as a command line writes them."""

import re
from typing import Any

from regraft.errors import ParameterError

UNITS = {"s": 1 / 60, "sec": 1 / 60, "m": 1.0, "min": 1.0, "minutes": 1.0, "h": 60.0}


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


def by_method(pairs: list[str]) -> dict[str, dict[str, Any]]:
    """`["a.c=1", "b.c=2"]` -> `{"a": {"c": 1}, "b": {"c": 2}}`. Raises `ParameterError`, also for one without a method."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in parse_settings(pairs).items():
        name, dot, field = key.partition(".")
        if not dot:
            raise ParameterError(f"--set {key}={value}: write it as method.field=value")
        found.setdefault(name, {})[field] = value
    return found


def parse_value(pair: str, value: str) -> Any:
    """The value of one `--set` pair."""
    import yaml  # a tenth of a second, which `--help` need not wait for

    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value):  # YAML 1.1 reads 1e-5 as a string
        return float(value)
    if value.lower() == "none":
        return "none"
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise ParameterError(f"--set {pair}: the value is not YAML: quote it, or write a number, a word, true, false or [a, b]") from None


def parse_budget(text: str) -> dict[str, Any]:
    """`"2min"` -> minutes 2.0; `"200"` or `"200steps"` -> steps 200; `"2epochs"` -> epochs 2.0. Raises `ParameterError` for others."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if found and found[2] in UNITS:
        return {"minutes": float(found[1]) * UNITS[found[2]]}
    if found and found[2] in ("", "step", "steps") and found[1].isdigit():
        return {"steps": int(found[1])}
    if found and found[2] in ("epoch", "epochs"):
        return {"epochs": float(found[1])}
    raise ParameterError(f"--train {text}: write a time as 90s, 2min or 1h, a number of steps as 200, or of epochs as 2epochs")
