"""What the benchmarks run on: a model, a tokenizer change, sentences, and the rivals' own environments.

Rivals are installed once, each in its own environment, under the folder that REGRAFT_RIVALS names, or in the user's cache.
"""

import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pooch

from regraft.corpus import Corpus
from regraft.datasets.clinical import hpo_documents
from regraft.datasets.models import model_folder
from regraft.reproductions.harness.vocab.setting import Setting
from regraft.reproductions.harness.vocab.vietnamese import read_lines, vietnamese_setting
from regraft.vocab.initializer import Context, Source, Target

# what pip is called with, call by call; {torch} is the version that regraft runs on
RIVALS = {
    "mergekit": ("torch=={torch}", "mergekit==0.1.5"),
    "fasttext": ("fasttext-numpy2==0.10.4",),
    # deepfocus asks for fasttext, whose sources do not build everywhere; fasttext-numpy2 is the same module as a wheel
    "deepfocus": (
        "torch=={torch}",
        "fasttext-numpy2 transformers datasets entmax fastdist requests numba scipy tqdm print-on-steroids",
        "--no-deps deepfocus==1.0.1",
    ),
}

__all__ = ["context", "model_folder", "rival", "sentences", "source", "target", "vietnamese"]


def rival(name: str) -> str:
    """The Python of `name`'s environment, made on first use."""
    given = os.environ.get("REGRAFT_RIVALS")
    folder = (Path(given) if given else Path(pooch.os_cache("regraft")) / "rivals") / name
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {name} in {folder}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        for call in RIVALS[name]:
            wanted = call.format(torch=version("torch").partition("+")[0]).split()
            subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return str(python)


def sentences(count: int) -> list[str]:
    """`count` lines: English and Vietnamese Wikipedia, then definitions of the Human Phenotype Ontology."""
    lines = [*read_lines("vi.train"), *read_lines("en.train")]
    lines += [line for document in hpo_documents() for line in document.splitlines() if line.strip()]
    if len(lines) < count:
        raise SystemExit(f"only {len(lines):,} sentences are at hand, {count:,} are wanted")
    return lines[:count]


def vietnamese(pieces: int) -> Setting:
    """SmolLM2-135M and `pieces` Vietnamese pieces."""
    return vietnamese_setting(pieces, sentences=10_000, vietnamese=1, english=1)


def source(setting: Setting) -> Source:
    return Source(table=setting.checkpoint.read(setting.checkpoint.layout.input[0]), tokenizer=setting.tokenizer)


def target(setting: Setting) -> Target:
    change = setting.change
    return Target(ids=change.new_ids, tokenizer=change.tokenizer, source_ids=change.source_ids, old_tokenizer=setting.tokenizer)


def context(setting: Setting, texts: list[str]) -> Context:
    return Context(corpus=Corpus.from_texts(texts, held_out=0.0), load_model=setting.untouched)
