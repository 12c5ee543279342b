"""Reproductions: each method's claim tested again on real data, beside its baseline, with an interval and a verdict.

Enters: a method's name. Leaves: the result (a dict and its JSON file) and a `Report`. A script is one module here with a function
``reproduce(quick: bool) -> Findings``; its file name is the method's slug with underscores.
"""

import importlib
import pkgutil
import time
from pathlib import Path
from typing import Any

from regraft.errors import ParameterError
from regraft.report import Report
from regraft.reproductions.harness.record import commit, result_path, results_summary, results_table, to_record, to_report, write_record

__all__ = ["available", "results_summary", "results_table", "run"]


def available() -> list[str]:
    """Names of the methods that have a script."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.ispkg)


def run(method: str, *, quick: bool = False, out: str | Path | None = None) -> tuple[dict[str, Any], Path, Report]:
    """Run the script of `method`; returns the result, the file it was written to, and a report.

    Parameters
    ----------
    quick : smaller data, fewer steps and seeds: a look, not a result, and never written over a committed one.
    out : folder for the result; by default the checkout's results, else the working folder.

    Raises `ParameterError` for a method without a script, and what the script raises when its data or model can't be had.
    """
    slug = method.strip().lower().replace("_", "-")
    if slug not in available():
        raise ParameterError(f"no reproduction of '{method}': choose one of {', '.join(available())}")
    script = importlib.import_module(f"{__name__}.{slug.replace('-', '_')}")
    path = result_path(slug, quick=quick, out=Path(out) if out is not None else None)
    version, start = commit(), time.perf_counter()
    findings = script.reproduce(quick)
    result = to_record(slug, findings, quick=quick, seconds=time.perf_counter() - start, version=version)
    write_record(result, path)
    return result, path, to_report(slug, findings, result)
