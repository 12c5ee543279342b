"""What `regraft align relative` does: how far two spaces agree, as they are, relative to shared anchors, and mapped.

Enters: two files of paired rows, and anchors. Leaves: agreement in each way on rows that are no anchors, and on request a directory with
the anchors, the fitted map, the figures and a report.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft import provenance
from regraft.align.agreement import Agreement, agree
from regraft.align.aligners.relative_representations import RelativeRepresentations
from regraft.align.aligners.relative_representations.coordinates import Steps
from regraft.align.aligners.relative_representations.projections import Similarity
from regraft.align.aligners.semantic_alignment import SemanticAlignment
from regraft.align.anchors import SAMPLERS, AnchorSet, Sampler, draw_anchors
from regraft.align.paired_spaces import PairedSpaces, open_paired
from regraft.align.report.agreement_figures import agreement_points
from regraft.errors import InputError, ParameterError
from regraft.method import resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report

ANCHORS, FIGURES, PAGE = "anchors.json", "agreement.json", "report.html"
FEWEST = 8  # pairs that halves can be drawn from
BEFORE, RELATIVE, MAPPED = "as they are", "relative", "mapped"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user wants: how many anchors or which file of them, how they are drawn, what the coordinates are, what is measured."""

    anchors: str = "300"
    sampler: Sampler = "uniform"
    similarity: Similarity = "cosine"
    steps: Steps = "center"
    labels: Path | None = None
    k: int = 10
    samples: int = 2_000
    seed: int = 0


def relative(left: Path, right: Path, asked: Asked, out: Path | None = None, *, overwrite: bool = False) -> tuple[Report, dict[str, Any]]:
    """Report and figures; with `out`, also a directory. Raises `InputError`, `ParameterError`, `OutputError`."""
    if out is not None:
        check_output(out, overwrite=overwrite)
    settings = {"similarity": asked.similarity, "steps": asked.steps, "space": "relative"}
    found = resolve("aligner", "relative-representations", settings)
    start = perf_counter()
    with step(f"reading {left.name} and {right.name}"):
        spaces = open_paired(left, right)
    anchors = _anchors(spaces, asked)
    places = anchors.positions(spaces.ids)
    rest = np.setdiff1d(np.arange(len(spaces.ids)), places)
    if len(anchors) < 2:
        raise ParameterError("--anchors 1: one similarity tells no two spaces apart: give at least 2, better 50 or more")
    if min(len(rest), asked.samples) < FEWEST:
        raise ParameterError(f"{min(len(rest), asked.samples)} pairs to measure on beside the anchors: at least {FEWEST} are needed")
    measured = np.sort(np.random.default_rng(asked.seed).permutation(rest)[: asked.samples])
    found.fit(spaces.left[places], spaces.right[places])
    with step(f"measuring on {len(measured):,} pairs"):
        ways = _ways(spaces, places, measured, found, asked)
    report, figures = _told(spaces, anchors, ways, asked, len(rest))
    if out is not None:
        seconds = {"seconds": perf_counter() - start}
        with atomic_directory(out, overwrite=overwrite) as folder:
            anchors.save(folder / ANCHORS)
            found.save_into(folder)
            (folder / FIGURES).write_text(json.dumps(figures, indent=1), encoding="utf-8")
            report.save_html(folder / PAGE)
            parameters = {"anchors": len(anchors), "sampler": anchors.method, **settings}
            about = provenance.record(
                spaces,
                "align relative",
                method=found.name,
                parameters=parameters,
                seed=asked.seed,
                timings=seconds,
                metrics=figures["ways"],
            )
            provenance.save(about, folder)
        figures = figures | {"out": str(out)}
    return report, figures


def _anchors(spaces: PairedSpaces, asked: Asked) -> AnchorSet:
    encoder = spaces.files[0].name
    if not asked.anchors.isdigit():
        return read_anchors(Path(asked.anchors), encoder)
    if asked.sampler not in SAMPLERS:
        raise ParameterError(f"--sampler {asked.sampler}: choose one of {', '.join(SAMPLERS)}")
    if asked.sampler == "frequent" and not spaces.words:
        raise ParameterError("--sampler frequent: rows have no frequency: give word vectors, most frequent first, or another sampler")
    labels = None
    if asked.sampler == "stratified":
        if asked.labels is None:
            raise ParameterError("--sampler stratified needs classes: give --labels, a file with one a line")
        labels = _lines(asked.labels)
        if len(labels) != len(spaces.ids):
            raise InputError(f"{asked.labels}: {len(labels)} lines for {len(spaces.ids)} pairs: give one class a pair")
    chosen = draw_anchors(
        int(asked.anchors),
        sampler=asked.sampler,
        rows=np.asarray(spaces.left),
        labels=labels,
        counts=-np.arange(len(spaces.ids)) if asked.sampler == "frequent" else None,
        seed=asked.seed,
    )
    ids = tuple(spaces.ids[place] for place in chosen)
    return AnchorSet(ids, ids if spaces.words else None, encoder, asked.sampler, asked.seed)


def read_anchors(path: Path, encoder: str) -> AnchorSet:
    """Anchors of a JSON file that was saved, or of lines of text: ids of rows, words, or samples. Raises `InputError`."""
    if path.suffix == ".json":
        return AnchorSet.load(path).for_encoder(encoder)
    lines = [line for line in _lines(path) if line.strip()]
    if not lines:
        raise InputError(f"{path}: no anchors in it: give one a line")
    return AnchorSet.of_texts(lines, encoder=encoder)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: give a number, or a file with one a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as UTF-8 text ({getattr(error, 'strerror', None) or 'bytes that are none'}): give one a line"
        ) from None


def _ways(
    spaces: PairedSpaces, places: npt.NDArray[np.int64], measured: npt.NDArray[np.int64], found: RelativeRepresentations, asked: Asked
) -> dict[str, list[Agreement]]:
    one, other = spaces.left[measured], spaces.right[measured]
    mapped = SemanticAlignment().fit(spaces.left[places], spaces.right[places])
    pairs = {
        BEFORE: (one, other),
        RELATIVE: (found.relative(one), found.relative(other, "target")),
        MAPPED: (mapped.transform(one) - mapped.target_mean_, other - mapped.target_mean_),
    }
    return {way: agree(*both, k=asked.k, seed=asked.seed) for way, both in pairs.items()}


def _told(
    spaces: PairedSpaces, anchors: AnchorSet, ways: dict[str, list[Agreement]], asked: Asked, rest: int
) -> tuple[Report, dict[str, Any]]:
    names = list(dict.fromkeys(one.name for measures in ways.values() for one in measures))
    values = {way: {one.name: one for one in measures} for way, measures in ways.items()}
    rows = [{"measure": name, **{way: _shown(values[way].get(name)) for way in ways}} for name in names]
    before, after = (values[way][names[0]].value for way in (BEFORE, RELATIVE))
    found = values[RELATIVE]["mrr"].value
    samples = ways[BEFORE][0].samples
    dims = " and ".join(str(one.shape[1]) for one in (spaces.left, spaces.right))
    lead = (
        f"{dims} dimensions, {len(anchors)} anchors ({anchors.method}), measured on {samples:,} of {rest:,} other pairs: {names[0]} "
        f"{before:.3f} as they are, {after:.3f} relative to the anchors; there a row finds its partner with an MRR of {found:.3f}."
    )
    report = Report(f"{spaces.files[0].name} and {spaces.files[1].name}", lead)
    caption = (
        f"Values with 95 % intervals. relative: {asked.similarity} to the anchors, steps {asked.steps}; mapped: the orthogonal map of the "
        "same anchors. A dash: the dimensions differ and nothing can be compared. mrr and cosine of chance are near 0."
    )
    report.add_table("Agreement", rows, caption)
    report.add_figure("Agreement by measure", agreement_points(ways, BEFORE))
    figures = {
        "pairs": len(spaces.ids),
        "dimensions": [int(one.shape[1]) for one in (spaces.left, spaces.right)],
        "anchors": {"count": len(anchors), "method": anchors.method, "seed": anchors.seed, "order_hash": anchors.order_hash},
        "samples": samples,
        "ways": {way: [one.to_dict() for one in measures] for way, measures in ways.items()},
    }
    return report, figures


def _shown(found: Agreement | None) -> str | None:
    if found is None:
        return None
    interval = f"[{found.low:.3f}, {found.high:.3f}]" if np.isfinite([found.low, found.high]).all() else "[no interval]"
    return f"{found.value:.3f} {interval}"
