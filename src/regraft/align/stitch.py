"""What `regraft align stitch` does: a head trained on one text encoder reads another, with nothing trained in between.

Enters: two encoders' directories, labelled texts, and anchors (texts, or pairs of texts where the encoders read different languages).
Leaves: accuracy of every encoder with every head, absolute, relative and translated, as a report and figures.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft import provenance
from regraft.align.aligners.relative_representations import RelativeSpace
from regraft.align.aligners.relative_representations.coordinates import Steps
from regraft.align.anchors import AnchorSet, draw_anchors, parallel_anchors
from regraft.align.relative import read_anchors
from regraft.align.report.agreement_figures import stitching_maps
from regraft.align.stitching import Cell, Encoded, HeadSettings, Stitching, stitching_matrix
from regraft.align.stitching.text_encoder import Pooling, TextEncoder
from regraft.errors import InputError, ParameterError
from regraft.evaluation.paired import DRAWS
from regraft.language.loading import check_placement
from regraft.method import configure
from regraft.output import atomic_directory, check_output
from regraft.report import Report
from regraft.tasks.labelled.examples import LabelledData
from regraft.tasks.labelled.readers import open_labelled

FIGURES, PAGE, ANCHORS = "stitching.json", "report.html", "anchors.json"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user wants.

    Attributes
    ----------
    data, test : labelled texts to train heads on and to test by; without `test` a share of `data` is held out.
    anchors : how many training texts to draw, stratified by class, or a file of texts. `decoder_anchors` : their partners for the decoder.
    seeds : how many heads are trained for each cell.
    """

    data: Path
    test: Path | None = None
    anchors: str = "384"
    decoder_anchors: Path | None = None
    steps: Steps = "center"
    pooling: Pooling = "mean"
    text_column: str | None = None
    label_column: str | None = None
    head: HeadSettings = field(default_factory=HeadSettings)
    seeds: int = 3
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Encoders:
    """Where an output came from, for its provenance."""

    folders: tuple[Path, Path]

    @property
    def root(self) -> Path:
        return self.folders[0].resolve()

    @property
    def id(self) -> str | None:
        return None

    @property
    def revision(self) -> str | None:
        return None

    def source_hash(self) -> str:
        """Hash of every weight file of both directories."""
        files = [path for folder in self.folders for path in sorted(folder.rglob("*.safetensors"))]
        return hashlib.sha256("".join(map(provenance.sha256, files)).encode()).hexdigest()


def stitch(
    encoder: Path, decoder: Path, asked: Asked, out: Path | None = None, *, overwrite: bool = False
) -> tuple[Report, dict[str, Any]]:
    """Report and figures; with `out`, also a directory. Raises `InputError` and its kin."""
    if out is not None:
        check_output(out, overwrite=overwrite)
    if asked.seeds < 1:
        raise ParameterError(f"--seeds {asked.seeds}: train at least 1 head")
    check_placement("auto", asked.device)
    relative = configure(RelativeSpace, {"steps": asked.steps})  # refused before anything is encoded
    start = perf_counter()
    data = open_labelled("classification", asked.data, asked.test, text_column=asked.text_column, label_column=asked.label_column)
    first, second = (TextEncoder(folder, pooling=asked.pooling, device=asked.device) for folder in (encoder, decoder))
    names = (first.name, second.name) if first.name != second.name else (f"{first.name} (encoder)", f"{second.name} (decoder)")
    anchors = _anchors(data, asked, names)
    encoded = {
        name: Encoded(model([one.text for one in data.train]), model([one.text for one in data.test]), side.encode(model))
        for name, model, side in zip(names, (first, second), anchors, strict=True)
    }
    labels = tuple(np.array([one.labels[0] for one in side]) for side in (data.train, data.test))
    seeds = range(asked.seed, asked.seed + asked.seeds)
    found = stitching_matrix(encoded, (labels[0], labels[1]), relative=relative, head=asked.head, seeds=list(seeds))
    report, figures = _told(found, data, anchors[0], names, labels, asked)
    if out is not None:
        with atomic_directory(out, overwrite=overwrite, sources=(encoder, decoder)) as folder:
            for name, side in zip((ANCHORS, "decoder-" + ANCHORS), anchors, strict=True):
                side.save(folder / name)
            (folder / FIGURES).write_text(json.dumps(figures, indent=1), encoding="utf-8")
            report.save_html(folder / PAGE)
            about = provenance.record(
                Encoders((encoder, decoder)), "align stitch", method="relative-representations", parameters={"steps": asked.steps},
                seed=asked.seed, corpus={"sha256": data.sha256()}, timings={"seconds": perf_counter() - start}, metrics=figures,
            )  # fmt: skip
            provenance.save(about, folder)
        figures = figures | {"out": str(out)}
    return report, figures


def _anchors(data: LabelledData, asked: Asked, names: tuple[str, str]) -> tuple[AnchorSet, AnchorSet]:
    """The anchors of either encoder, none of them a test text."""
    if asked.anchors.isdigit():
        if asked.decoder_anchors is not None:
            raise ParameterError("--decoder-anchors needs --anchors FILE: its lines are the partners of that file's lines")
        texts = list(dict.fromkeys(one.text for one in data.train))
        label = {one.text: one.labels[0] for one in data.train}
        places = draw_anchors(int(asked.anchors), sampler="stratified", labels=[label[text] for text in texts], seed=asked.seed)
        one = AnchorSet.of_texts([texts[place] for place in places], encoder=names[0], method="stratified", seed=asked.seed)
        both = one, one.for_encoder(names[1])
    elif asked.decoder_anchors is None:
        one = read_anchors(Path(asked.anchors), names[0])
        both = one, one.for_encoder(names[1])
    else:
        sides = [read_lines(path) for path in (Path(asked.anchors), asked.decoder_anchors)]
        if len(sides[0]) != len(sides[1]):
            raise InputError(
                f"{asked.decoder_anchors}: {len(sides[1])} lines for {len(sides[0])} anchors: line i of both must mean the same"
            )
        both = parallel_anchors(sides[0], sides[1], encoders=names)
    for side in both:
        if side.samples is not None:
            AnchorSet.of_texts(side.samples).check_apart([one.text for one in data.test], "test texts")
    both[0].check_shared(both[1])
    return both


def read_lines(path: Path) -> list[str]:
    """Lines of text, in order, none left out. Raises `InputError`."""
    try:
        found = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as UTF-8 text ({getattr(error, 'strerror', None) or 'bytes that are none'}): give one anchor a line"
        ) from None
    blank = next((number for number, line in enumerate(found, 1) if not line.strip()), None)
    if blank is not None or not found:
        raise InputError(f"{path}, line {blank or 1}: no anchor in it: give one a line")
    return found


def _told(
    found: Stitching,
    data: LabelledData,
    anchors: AnchorSet,
    names: tuple[str, str],
    labels: tuple[npt.NDArray[Any], ...],
    asked: Asked,
) -> tuple[Report, dict[str, Any]]:
    values, counts = np.unique(labels[0], return_counts=True)
    floor = float((labels[1] == values[counts.argmax()]).mean())
    own = next(cell for cell in found.of("absolute", stitched=False) if cell.head == names[1])
    rows: list[dict[str, Any]] = [
        {"head reads": "nothing: always the commonest class", "accuracy": floor},
        {"head reads": f"its own encoder, {names[1]}", **_measured(own, asked.seed)},
    ]
    asked_for = [cell for cell in found.cells if cell.encoder == names[0] and cell.head == names[1]]
    rows += [{"head reads": f"{names[0]}, {cell.way}", **_measured(cell, asked.seed)} for cell in asked_for]
    relative = next(cell for cell in asked_for if cell.way == "relative")
    lead = (
        f"A head trained on {names[1]} reads {names[0]} relative to {len(anchors)} anchors with accuracy {relative.accuracy:.3f}; "
        f"on its own encoder it has {own.accuracy:.3f}, and the commonest class {floor:.3f}."
    )
    report = Report(f"{names[0]} stitched to a head of {names[1]}", lead)
    caption = f"{len(data.test)} test texts, {asked.seeds} heads; 95 % intervals by bootstrap over both. A dash: the dimensions differ."
    report.add_table("Stitching", rows, caption)
    report.add_table("Every encoder with every head (accuracy ± deviation over heads)", found.rows())
    report.add_figure("Accuracy", stitching_maps(found))
    if data.notes:
        report.add_table("Notes", [{"note": note} for note in data.notes])
    figures = {"data": data.summary(), "anchors": len(anchors), "order_hash": anchors.order_hash, "stitching": rows, "matrix": found.rows()}
    return report, figures


def _measured(cell: Cell, seed: int) -> dict[str, Any]:
    """Accuracy with an interval that draws texts and heads."""
    if cell.correct is None:
        return {"accuracy": None}
    rng, (heads, texts) = np.random.default_rng(seed), cell.correct.shape
    drawn = [cell.correct[rng.integers(heads, size=heads)].mean(0)[rng.integers(texts, size=texts)].mean() for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"accuracy": cell.accuracy, "low": float(low), "high": float(high)}
