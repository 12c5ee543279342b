"""What an adaptation would read, write and need, without doing it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.checkpoint import Checkpoint
from regraft.method import resolve
from regraft.output import check_output
from regraft.report import Report
from regraft.tokenizer import Tokenizer
from regraft.vocab.change.request import TokenizerRequest

MEGABYTE = 1e6


@dataclass(frozen=True)
class Estimate:
    """`figures` in plain numbers and the same as a report."""

    figures: dict[str, Any]
    report: Report


def estimate(
    model: str | Path,
    *,
    corpus: Sequence[str | Path],
    out: Path | None,
    method: str,
    settings: Mapping[str, Any] | None = None,
    text_column: str | None = None,
    held_out: float = 0.1,
    overwrite: bool = False,
    **request: Any,
) -> Estimate:
    """Check everything that can be checked before the work, and size it up: nothing is learned, loaded or written."""
    initializer = resolve("initializer", method, settings)
    change = TokenizerRequest(**request, start=initializer)
    checkpoint = Checkpoint.open(model, vocabulary=True)
    if out is not None:
        check_output(out, overwrite=overwrite, sources=[checkpoint.root])
    tokenizer = Tokenizer.from_directory(checkpoint.path)
    opened = change.open_corpus(corpus, held_out=held_out, text_column=text_column)
    target = Tokenizer.from_directory(change.replace).vocab_size if change.replace else tokenizer.vocab_size + (change.extend or 0)
    tables = [checkpoint.tensors[name] for name in checkpoint.layout.names]
    changed = {info.file for info in tables}
    figures = {
        "change": change.describe(),
        "corpus_bytes": opened.size_bytes,
        "corpus_documents": opened.count("all"),
        "held_out_documents": opened.count("held-out"),
        "skipped_files": len(opened.skipped),
        "vocabulary_before": tokenizer.vocab_size,
        "vocabulary_after": target,
        "table_rows": checkpoint.layout.rows,
        "tables_mb": sum(info.nbytes for info in tables) / MEGABYTE,
        "rewritten_shards": len(changed),
        "rewritten_mb": sum(file.stat().st_size for file in changed) / MEGABYTE,
        "shards": len(checkpoint.shards),
    }
    report = Report(f"Dry run: {checkpoint.path.name}", "Nothing was changed.")
    report.add_table("", [{"what": name.replace("_", " "), "value": value} for name, value in figures.items()])
    if change.ontology:
        ontologies = [ontology.summary() for ontology in change.ontologies]
        report.add_table("Ontologies", ontologies)
        figures["ontologies"] = ontologies
    return Estimate(figures, report)
