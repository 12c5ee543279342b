"""A symbol-blind model of texts as a folder: trained with its probe, written, opened, and asked about a cipher.

Enters: texts. Leaves: a `transformers` checkpoint (`LexinvariantLM`), the probe in `probe.safetensors`, and `regraft.json`.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regraft import provenance
from regraft.bias.learning import fit
from regraft.bias.lexinvariant.decipher import by_frequency, decipher, make_probe, train_probe
from regraft.bias.lexinvariant.model import LexinvariantConfig, LexinvariantLM
from regraft.bias.prior import Plan
from regraft.bias.priors.plain_language_model import judged, next_symbol
from regraft.bias.tasks.symbols import encode, windowed, windows
from regraft.corpus import Corpus
from regraft.errors import InputError, ParameterError
from regraft.output import atomic_directory, check_output

PROBE, MOST = "probe.safetensors", 512


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a model of symbols is built. Numbers as in `LexinvariantConfig`; steps of the model and of its probe; `held_out` of the texts."""

    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    context: int = 128
    steps: int = 1000
    probe_steps: int = 300
    batch: int = 16
    held_out: float = 0.1
    seed: int = 0


def train_reader(texts: Sequence[str | Path], given: Reader, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Train on `texts` in small letters and single blanks, and write the model to `out`; returns what it came to.

    Raises `ParameterError`: fewer than 2 or more than 512 different characters, too little text.
    """
    start = time.perf_counter()
    check_output(out, overwrite=overwrite)
    corpus = Corpus.open(texts, held_out=given.held_out)
    learned, held = (" ".join(" ".join(one.lower().split()) for one in corpus.documents(side)) for side in ("train", "held-out"))
    alphabet = "".join(sorted(set(learned)))
    if not 2 <= len(alphabet) <= MOST:
        raise ParameterError(f"the texts have {len(alphabet)} different characters: 2 to {MOST} are read: give other texts")
    held = "".join(one for one in held if one in alphabet)
    for side, text in (("learned from", learned), ("held out", held)):
        if len(text) <= given.context:
            raise ParameterError(f"the texts {side} have {len(text)} characters: a context of {given.context} needs more: give more texts")
    parts = [windows(encode(one, alphabet), given.context) for one in (learned, held)]
    config = LexinvariantConfig(
        len(alphabet), given.hidden_size, given.layers, given.heads, given.context, alphabet=alphabet,
        rows="orthonormal" if len(alphabet) <= given.hidden_size else "gaussian",
    )  # fmt: skip
    torch.manual_seed(given.seed)
    model = LexinvariantLM(config)
    task = windowed("the texts", parts[0], parts[1], len(alphabet))
    fit(model, task, Plan(steps=given.steps, batch=given.batch, seed=given.seed), next_symbol, rate=3e-3)
    probe = train_probe(model, task.x, steps=given.probe_steps, seed=given.seed)
    nats, _, asked = judged(model, task, given.seed)
    figures = {
        "nats": float(nats.sum() / asked.sum()),
        "nats_last_quarter": float(nats[:, -(given.context // 4) :].mean()),
        "nats_uniform": float(torch.tensor(float(len(alphabet))).log()),
        "alphabet": alphabet,
    } | recovery(model, probe, encode(held[:4096], alphabet), task.x)
    with atomic_directory(out, overwrite=overwrite) as folder:
        model.save_pretrained(folder)
        save_file({name: one.contiguous() for name, one in probe.state_dict().items()}, folder / PROBE)
        parameters = {name: getattr(given, name) for name in ("hidden_size", "layers", "heads", "context", "steps", "probe_steps", "batch")}
        made = provenance.record(
            provenance.Given(Path(texts[0]), corpus.sha256), "bias symbols", method="lexinvariant", parameters=parameters, seed=given.seed,
            metrics=figures, timings={"seconds": time.perf_counter() - start},
        )  # fmt: skip
        provenance.save(made, folder, [path.name for path in sorted(folder.iterdir())])
    return figures


def recovery(model: LexinvariantLM, probe: nn.Module, ids: Tensor, learned: Tensor) -> dict[str, float]:
    """The share of a text's places that are named right by the probe, and by the frequency of symbols in `learned` alone."""
    from regraft.bias.lexinvariant.decipher import best_key, names

    present = [int(one) for one in torch.bincount(ids).nonzero()]
    keys = {"probe": best_key(names(model, probe, ids), present), "frequency": by_frequency(ids, learned)}
    found = {}
    for name, key in keys.items():
        found[f"places_right_by_{name}"] = float(sum(key[int(one)] == int(one) for one in ids) / len(ids))
        found[f"symbols_right_by_{name}"] = float(sum(key[one] == one for one in present) / len(present))
    return found


def open_reader(folder: str | Path) -> tuple[LexinvariantLM, nn.Sequential]:
    """A model that `train_reader` wrote, and its probe. Raises `InputError`."""
    folder = Path(folder)
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
        if kind != "lexinvariant":
            raise InputError(f"{folder}: a model of type {kind}, whose symbols are learned: train one with regraft bias symbols")
        model = LexinvariantLM.from_pretrained(folder, local_files_only=True)
        probe = make_probe(model)
        probe.load_state_dict(load_file(folder / PROBE))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: holds no symbol-blind model ({error}): train one with regraft bias symbols") from None
    return model.eval(), probe.eval()  # type: ignore[no-untyped-call]


def read_cipher(folder: str | Path, cipher: Path, plain: Path | None, *, draws: int = 4, seed: int = 0) -> dict[str, Any]:
    """The text of `cipher` as the model in `folder` reads it; with `plain`, what it stands for, the share that is right too."""
    model, probe = open_reader(folder)
    text = _read(cipher)
    found = decipher(model, probe, text, draws=draws, seed=seed)
    result: dict[str, Any] = {"text": found.text, "key": found.key, "certainty": found.certainty, "symbols": found.symbols}
    if plain is not None:
        asked = _read(plain).lower()
        if len(asked) != len(text):
            raise ParameterError(f"--plain {plain}: {len(asked)} symbols, the cipher has {len(text)}: they belong place by place")
        result["places_right"] = sum(a == b for a, b in zip(asked, found.text, strict=True)) / len(asked)
    return result


def _read(path: Path) -> str:
    """The text of a file, without white space at its ends."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}): give a text file in UTF-8") from None
