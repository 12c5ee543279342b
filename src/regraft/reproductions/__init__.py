"""Reproductions: each method's claim tested again on real data, beside its baseline, with an interval and a verdict.

Enters: a method's name. Leaves: the result (a dict and its JSON file) and a `Report`. A script is one module here with a function
``reproduce(quick: bool) -> Findings``, with a second parameter `device` where it can use a GPU; its file name is the method's slug with
underscores.
"""

import importlib
import inspect
import pkgutil
import time
from pathlib import Path
from typing import Any

from regraft.errors import ParameterError
from regraft.language.loading import check_placement
from regraft.report import Report
from regraft.reproductions.harness.record import commit, result_path, results_summary, results_table, to_record, to_report, write_record

__all__ = ["available", "results_summary", "results_table", "run"]


def available() -> list[str]:
    """Names of the methods that have a script."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.ispkg)


def run(method: str, *, quick: bool = False, out: str | Path | None = None, device: str = "cpu") -> tuple[dict[str, Any], Path, Report]:
    """Run the script of `method`; returns the result, the file it was written to, and a report.

    Parameters
    ----------
    quick : smaller data, fewer steps and seeds: a look, not a result, and never written over a committed one.
    out : folder for the result; by default the checkout's results, else the working folder.
    device : "cpu", or a GPU for a script that can use one.

    Raises `ParameterError` for a method without a script or a device it cannot use, and what the script raises when its data or model
    can't be had.
    """
    slug = method.strip().lower().replace("_", "-")
    if slug not in available():
        raise ParameterError(f"no reproduction of '{method}': choose one of {', '.join(available())}")
    script = importlib.import_module(f"{__name__}.{slug.replace('-', '_')}")
    check_placement("auto", device)
    placement = {} if device == "cpu" else {"device": device}
    if placement and "device" not in inspect.signature(script.reproduce).parameters:
        raise ParameterError(f"--device {device}: the reproduction of {slug} runs on the CPU: leave it out")
    path = result_path(slug, quick=quick, out=Path(out) if out is not None else None)
    version, start = commit(), time.perf_counter()
    findings = script.reproduce(quick, **placement)
    result = to_record(slug, findings, quick=quick, seconds=time.perf_counter() - start, version=version, device=device)
    write_record(result, path)
    return result, path, to_report(slug, findings, result)
