"""Why two texts are near in a space of named concepts: what each concept adds to their cosine.

Enters: a model with named dimensions (SESA), or a knowledge base (ESA); the texts of two objects, concepts they are known to have. Leaves:
the concepts that add most, with the rest in one line, so that the column adds up to the cosine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from regraft.errors import ParameterError
from regraft.method import resolve
from regraft.progress import step
from regraft.report import Report
from regraft.text.explicit.naming import concept_names
from regraft.text.explicit.vectors import Fields, Floats, Known, combined, contributions, known_row, with_known
from regraft.text.loading import load
from regraft.text.report.figures import contribution_bars
from regraft.text.tasks.task import checked, encoder

TOP = 10
KNOWLEDGE_BASES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Side:
    """One object: its texts (fields), and concepts it is known to have, by name."""

    texts: Sequence[str] = ()
    concepts: Sequence[str] = ()


def explain(
    source: str | Path,
    query: Side,
    document: Side,
    *,
    top: int = TOP,
    fields: Fields = "max",
    known: Known = "max",
    out: Path | None = None,
    device: str = "cpu",
) -> tuple[Report, dict[str, Any]]:
    """The report, and {score, concepts: [{concept, query, document, contribution}], others}.

    Parameters
    ----------
    source : a model with named dimensions, or a knowledge base, which ESA is made of. fields : how the vectors of several texts of an
        object become one. known : concepts an object is known to have are the larger of both, or stand alone. out : a page to write.

    Raises `ParameterError` for a side without text or concepts, or without a known word; `CheckpointError` where dimensions have no names.
    """
    if top < 1:
        raise ParameterError(f"--top {top}: at least 1 concept is shown")
    if out is not None and out.suffix != ".html":
        raise ParameterError(f"--out {out}: the page is an .html file")
    for name, side in (("query", query), ("document", document)):
        if not any(text.strip() for text in side.texts) and not side.concepts:
            raise ParameterError(f"the {name} is empty: give it a text, or concepts with --{name}-concept")
    with step(f"loading {Path(source).name}"):
        model = opened(source, device)
    names = concept_names(model)
    a, b = (vector(model, names, side, role, fields, known) for side, role in ((query, "query"), (document, "document")))
    for role, side in (("query", query), ("document", document)):
        texts = [text for text in side.texts if text.strip()]
        if texts and not side.concepts and not any(_has_known_word(model, text, role) for text in texts):
            where = f"{Path(source).name} knows (or, in a knowledge base, that tells concepts apart)"
            raise ParameterError(f"the {role} has no word that {where}: {' '.join(texts)[:60]}")
    found = contributions(a, b)[0]
    score = float(found.sum())
    order = np.argsort(-found, kind="stable")
    shown = [int(at) for at in order[:top] if found[at] != 0]
    rows: list[dict[str, Any]] = [
        {"concept": names[at], "query": float(a[0, at]), "document": float(b[0, at]), "contribution": float(found[at])} for at in shown
    ]
    others = score - sum(row["contribution"] for row in rows)
    report = _report(Path(source).name, rows, others, len(names) - len(rows), score)
    if out is not None:
        report.save_html(out)
    return report, {"score": score, "concepts": rows, "others": others}


def opened(source: str | Path, device: str = "cpu") -> SentenceTransformer:
    """The model at `source`, or ESA over the knowledge base there."""
    if Path(source).suffix.lower() in KNOWLEDGE_BASES:
        model: SentenceTransformer = resolve("encoder", "esa").build(source, device=device)
        return model
    return load(source, device=device)


def vector(model: SentenceTransformer, names: Sequence[str], side: Side, role: Any, fields: Fields = "max", known: Known = "max") -> Floats:
    """One object's vector (1, K); an empty text adds nothing."""
    texts = [text for text in side.texts if text.strip()]
    rows = checked(encoder(model)(texts, role), role) if texts else np.zeros((1, len(names)), np.float32)
    one = combined(rows, fields)[None]
    return np.asarray(with_known(one, known_row(names, side.concepts)[None], known) if side.concepts else one, dtype=np.float64)


def _has_known_word(model: SentenceTransformer, text: str, role: str) -> bool:
    """Whether anything of `text` but special tokens ("unknown" is one) goes into the model."""
    given = model.preprocess([text], task=role)
    if "input_ids" not in given:  # ESA
        return bool(given["sentence_embedding"].any())
    kept = given["input_ids"][given["attention_mask"] > 0].tolist()
    return not set(kept) <= set(getattr(model.tokenizer, "all_special_ids", ()))


def _report(name: str, rows: list[dict[str, Any]], others: float, left: int, score: float) -> Report:
    if rows:
        named = ", ".join(row["concept"] for row in rows[:3])
        lead = f"{name}: cosine {score:.3f}, most of all from {named}."
    else:
        lead = f"{name}: cosine {score:.3f}: no concept that both have."
    report = Report("Ranked here because of these concepts", lead)
    rest = [{"concept": f"{left:,} others", "query": None, "document": None, "contribution": others}] if left else []
    if rows:
        report.add_figure("Contributions to the cosine", contribution_bars([*rows, *rest]))
    report.add_table("Concepts", [*rows, *rest], "The contributions add up to the cosine.", best={})
    return report
