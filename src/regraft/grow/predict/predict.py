"""`regraft grow predict`: an ordinary model directory with predicted weights, one tensor at a time.

Enters: the config of a target and a hypernetwork's file. Leaves: config.json, safetensors shards and regraft.json, which says of each
tensor how it came about. Never more than one shard is in memory, and never more of a matrix than the matrix itself.
"""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from regraft import provenance
from regraft.errors import CheckpointError, ParameterError
from regraft.grow.predict.graph import Graph, Shape, Slot
from regraft.grow.predict.hypernetwork.file import load
from regraft.grow.predict.hypernetwork.network import Hypernet
from regraft.grow.predict.targets import Target, names_differ, read_config
from regraft.output import atomic_directory, check_output, check_space
from regraft.progress import progress_bar, step

SHARD = 256 << 20  # bytes of a shard, unless one tensor alone is larger
Vocabulary = Literal["draw", "chunks", "tile"]
VOCABULARY = ("draw", "chunks", "tile")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Options:
    """How weights are predicted.

    Attributes
    ----------
    vocabulary : what becomes of a vocabulary that is longer than the decoder reaches: its last rows drawn with the deviation of the
        predicted ones, predicted in chunks by nodes of their own, or tiled as released code does.
    tile : whether other tensors may be tiled. noise : beta; beta times its deviation is added to what was tiled, so that copies differ.
    untie : predict a tied head on its own.
    """

    vocabulary: Vocabulary = "draw"
    tile: bool = False
    noise: float = 0.0
    untie: bool = False
    dtype: str = "float32"
    seed: int = 0


@dataclass(frozen=True)
class Fate:
    """How one tensor came about: predicted, sliced, tiled, drawn or skipped, with a note where rows differ."""

    name: str
    shape: Shape
    how: str
    note: str = ""

    def row(self) -> dict[str, Any]:
        return {"tensor": self.name, "shape": list(self.shape), "how": self.how, **({"note": self.note} if self.note else {})}


class Prediction:
    """The tensors of one target by one hypernetwork, one at a time and in the order of the model.

    Raises `ParameterError` where a tensor would be tiled without leave, naming it and what to do.
    """

    def __init__(self, target: Target, network: Hypernet, options: Options) -> None:
        self.target, self.network, self.options = target, network, options
        self.graph = self._graph()
        self.slots = self.graph.slots
        self.fates = [self._fate(name, shape) for name, shape in self.shapes.items()]
        for fate in self.fates:
            if fate.how == "tiled" and not options.tile and not (self._drawn_from(fate.name) and options.vocabulary == "tile"):
                raise ParameterError(
                    f"{fate.name} of {tuple(fate.shape)} is larger than this hypernetwork predicts, and would be tiled with "
                    "copies: add --tile to accept that, or train a hypernetwork with a larger K"
                )
        with torch.no_grad():
            self.vectors = network.encode([(self.graph, target.shapes)])[0]

    @property
    def shapes(self) -> dict[str, Shape]:
        return {**self.target.shapes, **self.target.kept_buffers}

    def tensor(self, name: str) -> torch.Tensor:
        """The values of one tensor, float32 (buffers in their own type)."""
        if name not in self.slots:
            return self.target.fresh({name}, self.options.seed)[name]
        generator = torch.Generator().manual_seed(self.options.seed + 1 + sum(name.encode()))
        shape, limit = self.target.shapes[name], self._drawn_from(name)
        parts = []
        with torch.no_grad():
            for number, slot in self.slots[name]:
                if limit and self.options.vocabulary == "draw":
                    slot = Slot(slot.name, slot.role, slot.transposed, slot.offset, rows=(0, limit))
                found = self.network.tensor(self.vectors[number], slot, self.target.shapes, initializer_range=self.target.initializer_range)
                if self.options.noise and self.network.outcome(slot, self.target.shapes) == "tiled":
                    found = found + self.options.noise * found.std() * torch.randn(found.shape, generator=generator)
                parts.append(found)
            if limit and self.options.vocabulary == "draw":
                mean, spread = parts[0].mean(0, keepdim=True), parts[0].std(0, keepdim=True)
                parts.append(mean + spread * torch.randn(shape[0] - limit, *shape[1:], generator=generator))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _graph(self) -> Graph:
        """The target's graph, its long vocabularies in pieces if they are to be."""
        graph = self.target.graph
        if self.options.vocabulary == "chunks":
            for name in graph.slots:
                if limit := self._drawn_from(name, graph):
                    graph = graph.in_pieces(name, self.target.shapes[name][0], limit)
        return graph

    def _drawn_from(self, name: str, graph: Graph | None = None) -> int:
        """The first row of a vocabulary's tensor that the decoder does not reach; 0 if there is none."""
        places = (graph or self.target.graph).slots.get(name)
        if not places or places[0][1].role not in ("table", "weight") or places[0][1].transposed:
            return 0
        shape = self.target.shapes[name]
        over = shape[0] == self.target.vocab_size and len(shape) == 2
        most, across = self.network.decoder.limits(1, 1)
        return most if over and shape[0] > most and shape[1] <= across else 0

    def _fate(self, name: str, shape: Shape) -> Fate:
        if name in self.target.kept_buffers:
            return Fate(name, shape, "skipped", "a buffer, as the library sets it")
        if name not in self.slots:
            return Fate(name, shape, "drawn", "a token of its own" if name in self.graph.tokens else "no node of the graph")
        limit = self._drawn_from(name)
        if limit and self.options.vocabulary == "draw":
            return Fate(name, shape, "predicted", f"rows {limit:,} to {shape[0]:,} drawn")
        if limit and self.options.vocabulary == "chunks":
            return Fate(name, shape, "predicted", f"in {len(self.slots[name])} chunks")
        slot = self.slots[name][0][1]
        note = "rows of class tokens drawn" if slot.role == "grid" and shape[-2] > int(shape[-2] ** 0.5) ** 2 else ""
        return Fate(name, shape, self.network.outcome(slot, self.target.shapes), note)


def predict(
    source: str | Path, hypernet: Path, options: Options, *, out: Path, overwrite: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Write a model directory with predicted weights to `out`; returns what was done.

    Raises `CheckpointError` (config, hypernetwork, a graph that cannot be traced), `ParameterError`, `OutputError`.
    """
    start = time.perf_counter()
    check_options(options)
    config, given = read_config(source)
    check_output(out, overwrite=overwrite, sources=[given.root] if Path(source).is_dir() else [])
    network, about = load(hypernet)
    if options.untie:
        config.tie_word_embeddings = False
    with step(f"tracing {config.model_type}"):
        target = Target(config, str(source))
        prediction = Prediction(target, network, options)
    if (lost := names_differ(target)) is not None:
        raise CheckpointError(
            f"{source}: transformers keeps {lost} under another name in files: weights of {config.model_type} cannot be written yet"
        )
    needed = sum(torch.Size(shape).numel() for shape in prediction.shapes.values()) * DTYPES[options.dtype].itemsize
    notes = _notes(prediction, about, network)
    figures = {
        "parameters": target.parameters,
        "hypernet_parameters": sum(one.numel() for one in network.parameters()),
        "nodes": len(prediction.graph),
        "tensors": dict(Counter(fate.how for fate in prediction.fates)),
        "bytes": needed,
        "tied": target.tied,
    }
    if dry_run:
        return figures | {"out": str(out), "notes": notes, "rows": grouped(prediction.fates)}
    with atomic_directory(out, overwrite=overwrite) as temporary:
        check_space(temporary, needed)
        files = write(prediction, temporary)
        seconds = round(time.perf_counter() - start, 3)
        made = provenance.record(
            given,
            "grow predict",
            method=network.predictor.name,
            parameters={**vars(options), "hypernet": {"file": str(hypernet), "sha256": provenance.sha256(hypernet), **about}},
            seed=options.seed,
            timings={"all": seconds},
            metrics=figures | {"new": [fate.row() for fate in prediction.fates]},
            notes=notes,
        )
        provenance.save(made, temporary, files)
    return figures | {"out": str(out), "seconds": seconds, "notes": notes, "rows": grouped(prediction.fates)}


def check_options(options: Options) -> None:
    """Raise `ParameterError` for what no option accepts. Asked before long work."""
    if options.vocabulary not in VOCABULARY:
        raise ParameterError(f"--vocabulary {options.vocabulary}: choose one of {', '.join(VOCABULARY)}")
    if options.dtype not in DTYPES:
        raise ParameterError(f"--dtype {options.dtype}: choose one of {', '.join(DTYPES)}")
    if not 0 <= options.noise < 1:
        raise ParameterError(f"--noise {options.noise}: a share of a tensor's deviation, from 0 to below 1")


def write(prediction: Prediction, directory: Path) -> list[str]:
    """Config and shards of a prediction; returns the names of the weight files."""
    target, dtype = prediction.target, DTYPES[prediction.options.dtype]
    shards: list[dict[str, Shape]] = [{}]
    size = 0
    for name, shape in prediction.shapes.items():
        own = torch.Size(shape).numel() * dtype.itemsize
        if shards[-1] and size + own > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += own
    files = (
        [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)] if len(shards) > 1 else ["model.safetensors"]
    )
    total = 0
    with progress_bar("predicting", len(prediction.shapes), "tensors") as bar:
        for file, names in zip(files, shards, strict=True):
            tensors = {}
            for name in names:
                found = prediction.tensor(name)
                tensors[name] = found.to(dtype if found.is_floating_point() else found.dtype).contiguous()
                total += tensors[name].nbytes
                bar.advance()
            save_file(tensors, directory / file, {"format": "pt"})
            tensors.clear()
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": total},
            "weight_map": {name: file for file, names in zip(files, shards, strict=True) for name in names},
        }
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    config = target.model.config
    config.architectures, config.dtype = [type(target.model).__name__], prediction.options.dtype
    config.save_pretrained(directory)
    return files


def grouped(fates: list[Fate]) -> list[dict[str, Any]]:
    """Fates of tensors whose names differ in numbers alone, as one row."""
    groups: dict[tuple[str, Shape, str, str], int] = Counter((re.sub(r"\d+", "*", one.name), one.shape, one.how, one.note) for one in fates)
    return [{"tensor": name, "number": n, "shape": list(shape), "how": how, "note": note} for (name, shape, how, note), n in groups.items()]


def _notes(prediction: Prediction, about: dict[str, Any], network: Hypernet) -> list[str]:
    """What the user should know of this prediction."""
    notes = []
    trained_on = about.get("space", {}).get("model_type")
    if trained_on and trained_on != prediction.target.config.model_type:
        notes.append(f"the hypernetwork was trained on {trained_on}, not on {prediction.target.config.model_type}: expect little")
    tiled = [fate.name for fate in prediction.fates if fate.how == "tiled"]
    if tiled:
        notes.append(
            f"{len(tiled)} tensors hold copies, such as {tiled[0]}: channels that start alike stay alike; --noise 1e-5 breaks ties"
        )
    if prediction.options.vocabulary == "chunks" and any("chunks" in fate.note for fate in prediction.fates):
        notes.append("chunks of a vocabulary are nodes that the hypernetwork has not seen in training")
    return notes
