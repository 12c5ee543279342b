"""The record of a reproduction: what was found, on which machine and versions, and where it is kept.

Enters: `Findings` of one script. Leaves: a JSON file whole or not at all, and the table of all committed results for the documentation.
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from regraft.errors import OutputError
from regraft.method import Paper
from regraft.output import atomic_file
from regraft.progress import console
from regraft.report import Report, plain
from regraft.reproductions.harness.claim import Claim, Declared, Measured, Sample

RESULTS = Path(__file__).parents[1] / "results"
PACKAGES = ("regraft", "torch", "transformers", "tokenizers", "peft", "numpy", "safetensors")


@dataclass(frozen=True)
class Findings:
    """What a script found. `extra` goes into the file under its own keys; `tables` and `figures` only into the report."""

    paper: Paper
    claims: list[Claim]
    extra: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ledger:
    """Claims as they are settled. `data` says what all of them were measured on."""

    data: str
    claims: list[Claim] = field(default_factory=list)

    def settle(self, declared: Declared, text: str, baseline: Measured, method: Measured, note: str = "") -> None:
        """Measure a declared claim on `text`, say how it ended, and keep it."""
        self._keep(declared.settle(f"{self.data}; {text}", baseline, method, note))

    def settle_order(self, declared: Declared, text: str, orders: Sequence[float]) -> None:
        """A claim about a rank correlation, one of each seed. Where one is not a number (what is ranked never changed) nothing is known."""
        found = np.array(orders, dtype=np.float64)[:, None]
        known = np.nan_to_num(found)
        claim = declared.settle(f"{self.data}; {text}", Sample(known * 0, np.ones_like(found)), Sample(known, np.ones_like(found)))
        if np.isnan(found).any():
            note = f"{claim.note} In {int(np.isnan(found).sum())} of {len(found)} seeds what is ranked never changed.".strip()
            claim = replace(claim, interval=[-1.0, 1.0], verdict="inconclusive", note=note)
        self._keep(claim)

    def _keep(self, claim: Claim) -> None:
        low, high = claim.interval
        console.print(f"  {claim.verdict}: {claim.claim}: {claim.effect:+.3f} [{low:+.3f}, {high:+.3f}]", highlight=False, markup=False)
        self.claims.append(claim)


def to_record(method: str, findings: Findings, *, quick: bool, seconds: float, version: str | None, device: str = "cpu") -> dict[str, Any]:
    """The result as plain data, in the order of the contract; `version` is the commit it ran at."""
    paper = findings.paper
    record = {
        "method": method,
        "paper": {"title": paper.title, "authors": paper.authors, "year": paper.year, "link": paper.link},
        "commit": version,
        "versions": versions(),
        "cpu": cpu(),
        "seconds": round(seconds, 1),
        "quick": quick,
        "claims": [claim.to_dict() for claim in findings.claims],
        **({} if device == "cpu" else {"gpu": gpu(device)}),
        **findings.extra,
    }
    return dict(plain(record))


def to_report(method: str, findings: Findings, record: Mapping[str, Any]) -> Report:
    """The findings as a report: claims first, then the tables behind them, then curves."""
    counts = {v: sum(c.verdict == v for c in findings.claims) for v in dict.fromkeys(c.verdict for c in findings.claims)}
    summary = ", ".join(f"{n} {v}" for v, n in counts.items())
    paper = findings.paper
    lead = f"{paper.title} ({paper.authors}, {paper.year}): {summary}."
    if record["quick"]:
        lead += " A quick run: a look, not a result."
    report = Report(f"Reproduction of {method}", lead)
    rows = [
        {
            "verdict": c.verdict,  # first: the first column of a terminal table is never cut
            "claim": c.claim,
            "baseline": f"{c.baseline}: {c.baseline_value:.3f}",
            "method": round(c.method_value, 3),
            "effect": f"{c.effect:+.3f} [{c.interval[0]:+.3f}, {c.interval[1]:+.3f}]",
            "expected": c.expected,
        }
        for c in findings.claims
    ]
    report.add_table("Claims", rows, "Effects with 95 % intervals (paired bootstrap over documents and seeds).")
    for title, table in findings.tables.items():
        report.add_table(title, table)
    for title, figure in findings.figures.items():
        report.add_figure(title, figure)
    return report


def result_path(method: str, *, quick: bool, out: Path | None) -> Path:
    """Where the result goes: `out`, else the checkout's results (full runs only), else the working folder."""
    name = f"{method}.quick.json" if quick else f"{method}.json"
    if out is not None:
        return out / name
    return RESULTS / name if in_checkout() and not quick else Path.cwd() / name


def write_record(record: Mapping[str, Any], path: Path) -> None:
    """Write the file whole or not at all. Raises `OutputError`."""
    try:
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: the result can't be written ({error.strerror}); choose another folder with --out") from None


def read_records(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Every committed result, by method."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def results_table(folder: Path = RESULTS) -> str:
    """All committed results as one Markdown table, one line a claim; the documentation's results page is this."""
    lines = ["| method | claim | baseline | method's value | effect [95 %] | expected | verdict |", "|---|---|---|---|---|---|---|"]
    for record in read_records(folder):
        for c in record["claims"]:
            low, high = c["interval"]
            cells = (
                f"[{record['method']}]({record['paper']['link']})",
                c["claim"],
                f"{c['baseline']}: {c['baseline_value']:.3g}",
                f"{c['method_value']:.3g} {c['unit']}",
                f"{c['effect']:+.3g} [{low:+.3g}, {high:+.3g}]",
                c["expected"],
                f"**{c['verdict']}**",
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def results_summary(folder: Path = RESULTS) -> str:
    """All committed results as a short Markdown table, one line a method, with the claims that did not come out; README holds it."""
    verdicts = ("reproduced", "inconclusive", "not reproduced")
    lines = [f"| method | {' | '.join(verdicts)} | what did not come out |", "|---|---|---|---|---|"]
    for record in read_records(folder):
        counts = [str(sum(c["verdict"] == verdict for c in record["claims"])) for verdict in verdicts]
        missed = "; ".join(f"{c['claim']} ({measured(c)})" for c in record["claims"] if c["verdict"] == verdicts[2])
        cells = (f"[{record['method']}]({record['paper']['link']})", *counts, missed)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def measured(claim: Mapping[str, Any]) -> str:
    """The effect of a claim with its unit."""
    if claim["expected"].startswith("relative"):
        return f"{claim['effect']:+.0%}"
    return f"{claim['effect']:+.2f} {claim['unit']}"


def in_checkout() -> bool:
    """Whether this package lies in its own source tree rather than in an installation."""
    return (Path(__file__).parents[4] / "pyproject.toml").is_file()


def commit() -> str | None:
    """The checkout's commit, with "-dirty" if the package differs from it; None in an installation."""
    if not in_checkout():
        return None
    package = str(Path(__file__).parents[2])
    ask = ["git", "-C", package, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if "regraft" not in found:
        from regraft import __version__

        found["regraft"] = __version__
    return found


def gpu(device: str) -> str:
    """The name of an accelerator."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def cpu() -> str:
    """The processor's name, the cores this process may use, and PyTorch's threads."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {torch.get_num_threads()} threads"
