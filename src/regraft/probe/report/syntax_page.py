"""The page of AST-Probe: the answer in a sentence, F1 over layers beside the controls, ranks, labels, and a tree beside the true one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regraft.probe.probes.ast_probe.encoding import constituents, decode
from regraft.probe.probes.ast_probe.score import mean_interval
from regraft.probe.probes.ast_probe.sweep import LEARNED, RANDOM, Outcome, Study
from regraft.probe.report.syntax_picture import STYLE, layers_picture, ranks_picture, tree_picture
from regraft.report import Report

LABELS = 20  # that are shown
SHOWN = (6, 16)  # tokens of the function whose tree is shown
NAMES = {"python": "Python", "javascript": "JavaScript", "go": "Go"}
CAPTION = (
    "Macro F1 of labelled constituents on functions of files that no probe has seen; intervals are 95 %, drawing the functions again. "
    "The layer is chosen on validation functions. ‖B'B − I‖ says how far the projection is from an orthogonal one. A layer holds syntax "
    "of its own only where it is above layer 0 and above the same layer under random layers."
)


def page(model: str, studies: Sequence[Study], pairs: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> Report:
    """All of it; with several languages, one part each."""
    lead = " ".join([*(answer(model, study) for study in studies), *(f"{note[0].upper()}{note[1:]}." for note in notes)])
    report = Report(f"Syntax in the layers of {model}", lead)
    for study in studies:
        name = f"{NAMES[study.language]}: " if len(studies) > 1 else ""
        report.add_figure(f"{name}F1 over layers", layers_picture(study.layers), CAPTION)
        report.add_table(f"{name}Layers", _layer_rows(study.layers), best={"F1": "high"})
        if study.ranks:
            report.add_figure(f"{name}F1 over the rank, layer {study.best.layer}", ranks_picture(study.ranks))
            report.add_table(f"{name}Ranks", [_row(one, rank=one.rank) for one in study.ranks], best={"F1": "high"})
        report.add_html(f"{name}A tree, rebuilt from layer {study.best.layer}", _trees(study), _tree_caption(study))
        report.add_table(f"{name}Recall by label, layer {study.best.layer}", _label_rows(study), _label_caption(study))
        report.add_table(f"{name}Functions", _count_rows(study), _grammar_line(study))
    if pairs:
        report.add_table("Between languages", [dict(row) | {"interval": _interval(row["interval"])} for row in pairs], PAIRS)
    return report


PAIRS = (
    "The mean principal angle between both projections, in degrees, beside that of two random subspaces of this size; F1 of the language's "
    "own probe, and of one that learns only labels on top of the other language's projection."
)


def answer(model: str, study: Study) -> str:
    """One sentence: which layer, how much, and whether that is more than both controls have."""
    chosen, language = study.best, NAMES[study.language]
    said = f"Layer {chosen.layer} of {model} gives back the syntax of unseen {language} functions with F1 {_f1(chosen)}"
    if not study.controls:
        return f"{said}; without controls that does not say what its layers have learned."
    beside = " and ".join(f"{one.f1:.2f} {'from the input' if one.layers == LEARNED else 'under random layers'}" for one in study.controls)
    low = min(mean_interval(chosen.score.f1 - control.score.f1)[0] for control in study.controls)
    verdict = (
        "its layers hold syntax of their own"
        if low > 0
        else "that is not certainly more than a control has, so it says nothing of its layers"
    )
    return f"{said}, against {beside}: {verdict}."


def _f1(one: Outcome) -> str:
    return f"{one.f1:.2f} ({_interval(one.interval)})"


def _interval(ends: Sequence[float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _row(one: Outcome, **first: Any) -> dict[str, Any]:
    found = one.to_dict()
    return {
        **first,
        "F1": one.f1,
        "95 %": _interval(one.interval),
        "precision": found["precision"],
        "recall": found["recall"],
        "‖B'B − I‖": found["off_orthogonal"],
        "epochs": found["epochs"],
    }


def _layer_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    random = {one.layer: one for one in outcomes if one.layers == RANDOM}
    rows = []
    for one in outcomes:
        if one.layers == LEARNED:
            control = random.get(one.layer)
            beside = {"random layers": control.f1 if control else None, "95 % of it": _interval(control.interval) if control else None}
            row = _row(one, layer=str(one.layer) + (" (input)" if one.layer == 0 else ""))
            rows.append({"layer": row.pop("layer"), "F1": row.pop("F1"), "95 %": row.pop("95 %"), **beside, **row})
    return rows


def _label_rows(study: Study) -> list[dict[str, Any]]:
    inputs = next((one for one in study.layers if (one.layers, one.layer) == (LEARNED, 0)), None)
    rows = []
    for name, (right, there) in list(study.best.score.labels.items())[:LABELS]:
        row: dict[str, Any] = {"label": name, "there": there, "found": right, "recall": right / there}
        if inputs is not None:
            row["recall from the input"] = inputs.score.labels[name][0] / there
        rows.append(row)
    return rows


def _label_caption(study: Study) -> str:
    count = len(study.best.score.labels)
    return f"The {LABELS} most frequent of {count} labels in test functions; figures.json has all." if count > LABELS else ""


def _trees(study: Study) -> str:
    number = _typical(study)
    snippet, guess = study.sweep.split.test[number], study.best.predicted[number]
    true, found = constituents(snippet.code), constituents(guess)
    rebuilt = tree_picture("Rebuilt", decode(guess, snippet.tokens), snippet.tokens, true)
    return STYLE + rebuilt + tree_picture("True", snippet.tree, snippet.tokens, found)


def _typical(study: Study) -> int:
    """The test function of few tokens whose F1 is nearest to the mean: neither the best nor the worst."""
    lengths = np.array([len(one.tokens) for one in study.sweep.split.test])
    short = np.flatnonzero((lengths >= SHOWN[0]) & (lengths <= SHOWN[1]))
    if not len(short):
        return int(lengths.argmin())
    return int(short[np.abs(study.best.score.f1[short] - study.best.f1).argmin()])


def _tree_caption(study: Study) -> str:
    f1 = study.best.score.f1[_typical(study)]
    return f"The short test function whose F1 ({f1:.2f}) is nearest to the mean. ✗: above, not in the true tree; below, not found."


def _count_rows(study: Study) -> list[dict[str, Any]]:
    figures = study.to_dict()
    names = {"train": "trained on", "valid": "validated on", "test": "tested on"}
    used = [{"functions": names[side], "count": count, "files": figures["files"][side]} for side, count in figures["functions"].items()]
    return used + [{"functions": f"skipped: {why}", "count": count, "files": None} for why, count in figures["skipped"].items()]


def _grammar_line(study: Study) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in study.found.grammar.versions.items())
    return (
        f"{study.found.files:,} of {study.found.files_there:,} files were read, by {versions}; another version may name nodes differently."
    )
