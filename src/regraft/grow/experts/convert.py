"""A checkpoint grown to experts, and back to dense: only the tensors of the chosen layers are read and written.

Enters: a checkpoint and a grower's settings. Leaves: a directory that `transformers` opens, with `experts.json` where the architecture
itself does not route; or, on the way back, the dense checkpoint with its neurons in their first order.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft import provenance
from regraft.checkpoint import Checkpoint, write
from regraft.checkpoint.architecture import Architecture
from regraft.errors import CheckpointError, ParameterError
from regraft.grow.experts.copies import COPIES, PARTS
from regraft.grow.experts.ffn import FeedForward, oriented
from regraft.grow.experts.grower import Dense, ExpertGrower, Grown
from regraft.grow.experts.split import FIELD, FILE, Split, read_split
from regraft.language.model import CAUSAL, MASKED
from regraft.method import resolve
from regraft.output import check_output
from regraft.progress import step


@dataclass(frozen=True)
class Named:
    """A checkpoint by the names of its model's parameters, beside those in its files (`stored`)."""

    checkpoint: Checkpoint
    dense: Dense
    stored: Mapping[str, str]

    @classmethod
    def open(cls, source: str | Path) -> "Named":
        """Raises `CheckpointError` where the architecture cannot be built, or is a mixture already."""
        checkpoint = Checkpoint.open(source)
        architecture = Architecture(checkpoint.path, checkpoint.config)
        if architecture.model is None:
            raise CheckpointError(f"{checkpoint.path}: transformers cannot build this architecture without its weights")
        known = architecture.names_of(checkpoint.tensors)
        stored = {one.name: name for name, one in known.items() if not one.packed}

        def read(name: str) -> Tensor:
            if name not in stored:
                raise CheckpointError(f"{checkpoint.path}: has no tensor for the parameter {name}")
            value = checkpoint.read(stored[name])
            if not value.isfinite().all():
                raise CheckpointError(f"{checkpoint.path}: {stored[name]} holds NaN or infinity: nothing can be made of this layer")
            return value

        return cls(checkpoint, Dense(architecture.model, read), stored)

    def on_disk(self, name: str) -> str:
        """What the files call a parameter, or would call one that is new, by its nearest neighbor that they hold."""
        if name in self.stored:
            return self.stored[name]
        parts = name.split(".")
        for end in range(len(parts) - 1, 0, -1):
            prefix = ".".join(parts[:end]) + "."
            for known, file in self.stored.items():
                if known.startswith(prefix) and file.endswith(rest := known.removeprefix(prefix)):
                    return file.removesuffix(rest) + name.removeprefix(prefix)
        return name


def grow(
    source: str | Path,
    *,
    method: str | ExpertGrower = "emoe",
    settings: Mapping[str, Any] | None = None,
    out: str | Path,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write the checkpoint `source`, grown to experts by `method`, to `out`; figures for the user.

    Raises `ParameterError` for settings that the model cannot take, `CheckpointError` for an architecture that is not known or a mixture
    already, `OutputError` for a bad `out`.
    """
    start = time.perf_counter()
    grower: ExpertGrower = resolve("expert-grower", method, settings) if isinstance(method, str) else method
    named = Named.open(source)
    check_output(out, overwrite=overwrite, sources=[named.checkpoint.root])
    if FIELD in named.checkpoint.config or (named.checkpoint.path / FILE).is_file():
        raise CheckpointError(f"{named.checkpoint.path}: has experts already: take it back first, with --to-dense")
    with step(f"growing {named.checkpoint.path.name} to experts by {grower.name}"):
        grown = grower.grow(named.dense)
    figures = _figures(named, grown, grower)
    if dry_run:
        return {"would_write": str(out), **figures}
    parameters = {name: getattr(grower, name) for name in grower.parameters()}
    made = partial(
        provenance.record,
        named.checkpoint,
        "grow experts",
        method=grower.name,
        parameters=parameters,
        seed=getattr(grower, "seed", None),
        metrics=figures,
        notes=[*grown.notes, *_moved(named, grown)],
    )
    _write(named, grown, out, made, start, overwrite)
    how = "regraft.grow.experts.load" if grown.split else "AutoModelForCausalLM.from_pretrained"
    return figures | {
        "out": str(out),
        "open": f"{how}('{out}')",
        "notes": list(grown.notes),
        "seconds": round(time.perf_counter() - start, 1),
    }


def to_dense(source: str | Path, *, out: str | Path, overwrite: bool = False, dry_run: bool = False) -> dict[str, Any]:
    """Write the dense checkpoint of `source`: neurons where they were before, copies as their mean, routers left out.

    Trained or not, an EMoE result computes without masks what it does here; untrained, every tensor is what it was, bit for bit.
    Raises `CheckpointError` for a checkpoint without a split.
    """
    start = time.perf_counter()
    plain = Checkpoint.open(source)
    if FIELD not in plain.config and not (plain.path / FILE).is_file():
        raise CheckpointError(
            f"{plain.path}: has no {FILE}, so there is no way back here; `regraft undo` brings back what a result was made of"
        )
    named = Named.open(source)
    split = read_split(plain.path, plain.config)
    blocks = {block.path: block for block in named.dense.layers}
    changed: dict[str, Tensor] = {}
    for layer in split.layers:
        block = _block(blocks, layer.path)
        changed |= _mean_of_copies(named, block) if split.kind == "copies" else _unordered(named, block, layer.order)
    extra = {name for name in plain.tensors if f".{COPIES}." in name or ".expert_router." in name}
    grown = Grown(changed=changed)
    figures = {"layers": len(split.layers), "parameters": _count(named), "parameters_before": _count(named)}
    if dry_run:
        return {"would_write": str(out), **figures}
    made = partial(provenance.record, plain, "grow experts --to-dense", metrics=figures, notes=_moved(named, grown))
    _write(named, grown, out, made, start, overwrite, gone=frozenset(extra))
    return figures | {
        "out": str(out),
        "open": f"{_auto_class(plain)}.from_pretrained('{out}')",
        "seconds": round(time.perf_counter() - start, 1),
    }


def _auto_class(checkpoint: Checkpoint) -> str:
    """What opens a checkpoint with the head that it has."""
    name = (checkpoint.config.get("architectures") or [""])[0]
    return "AutoModelForCausalLM" if name in CAUSAL else "AutoModelForMaskedLM" if name in MASKED else "AutoModel"


def _write(
    named: Named, grown: Grown, out: str | Path, made: Any, start: float, overwrite: bool, gone: frozenset[str] = frozenset()
) -> None:
    """Write what changed; `gone` are names in files that are left out."""
    config = dict(grown.config)
    files: dict[str, bytes | None] = {}
    if (named.checkpoint.path / FILE).is_file():
        files[FILE] = None
    if FIELD in named.checkpoint.config:
        kept = {key: value for key, value in named.checkpoint.config.items() if key != FIELD}
        files["config.json"] = (json.dumps(kept, indent=2, ensure_ascii=False) + "\n").encode()
    added = {named.on_disk(name): value for name, value in grown.added.items()}
    dropped = {named.on_disk(name) for name in grown.dropped} | gone
    if config:
        _check_mixture(named, config, added, dropped)

    def extra(folder: Path) -> None:
        if grown.split is not None:
            grown.split.save(folder / named.checkpoint.path.relative_to(named.checkpoint.root))

    def record(folder: Path, touched: Any) -> None:
        provenance.save(made(timings={"all": round(time.perf_counter() - start, 3)}), folder, touched)

    with step(f"writing {out}"):
        write(
            named.checkpoint,
            out,
            tensors={named.on_disk(name): value for name, value in grown.changed.items()},
            added=added,
            dropped=dropped,
            config=config,
            files=files,
            extra=extra,
            record=record,
            overwrite=overwrite,
        )


def _check_mixture(named: Named, config: Mapping[str, Any], added: Mapping[str, Tensor], dropped: set[str]) -> None:
    """Raise `CheckpointError` unless `transformers` finds every parameter of the new architecture in what will be stored."""
    import transformers

    fields = {**named.checkpoint.config, **config}
    made = transformers.CONFIG_MAPPING[fields["model_type"]].from_dict(dict(fields))
    architecture = Architecture(named.checkpoint.path, fields, made)
    stored = (named.checkpoint.tensors.keys() - dropped) | added.keys()
    found = {one.name for one in architecture.names_of(stored).values()}
    tied = {"lm_head.weight"} if made.tie_word_embeddings else set()
    if lost := sorted(architecture.shapes.keys() - found - tied):
        raise CheckpointError(f"{named.checkpoint.path}: cannot become {fields['architectures'][0]}: nothing for {lost[0]}")


def _unordered(named: Named, block: FeedForward, order: tuple[int, ...] | None) -> dict[str, Tensor]:
    if order is None:  # what a trainer saved: the order went, and it changes nothing
        return {}
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return {name: named.dense.read(name).index_select(dim, back) for name, dim in block.neuron_dims()}


def _mean_of_copies(named: Named, block: FeedForward) -> dict[str, Tensor]:
    found = {}
    for part in PARTS:
        module, path = getattr(block, part), f"{block.path}.{getattr(block.pattern, part)}"
        for kind in ("weight", "bias"):
            if module is not None and getattr(module, kind) is not None:
                own = named.dense.read(f"{path}.{kind}")
                name = named.on_disk(block.beside(f"{COPIES}.{part}{'_bias' if kind == 'bias' else ''}"))
                copies = named.checkpoint.read(name)
                flat = oriented(module, own) if kind == "weight" else own
                mean = torch.cat([flat[None], copies]).double().mean(0).to(own.dtype)
                found[f"{path}.{kind}"] = oriented(module, mean).contiguous() if kind == "weight" else mean
    return found


def _block(blocks: Mapping[str, FeedForward], path: str) -> FeedForward:
    alike = [one for name, one in blocks.items() if name == path or name.endswith(f".{path}") or path.endswith(f".{name}")]
    if len(alike) != 1:
        raise CheckpointError(f"experts.json names the block {path}, which this model does not have: it is of another model")
    return alike[0]


def _count(named: Named) -> int:
    return sum(torch.Size(named.checkpoint.tensors[name].shape).numel() for name in named.stored.values())


def _figures(named: Named, grown: Grown, grower: ExpertGrower) -> dict[str, Any]:
    before = _count(named)
    added, gone = (sum(one.numel() for one in grown.added.values()), sum(named.dense.model.get_parameter(n).numel() for n in grown.dropped))
    layers = len(grown.split.layers) if grown.split else len({name.split(".mlp.")[0] for name in grown.dropped})
    return {
        "experts": grower.experts,
        "top_k": grower.top_k,
        "layers": layers,
        "form": grown.config.get("model_type", "experts.json"),
        "parameters": before + added - gone,
        "parameters_before": before,
    }


def _moved(named: Named, grown: Grown) -> list[str]:
    """Which tensors are new, moved or left out, for regraft.json."""
    listed = {"neurons moved in": grown.changed, "new": grown.added, "left out": sorted(grown.dropped)}
    return [f"{what}: {', '.join(named.on_disk(name) for name in names)}" for what, names in listed.items() if names]


def with_top_k(split: Split, top_k: int | None) -> Split:
    """`split` with another number of experts a token. Raises `ParameterError` outside 1 to all."""
    if top_k is None:
        return split
    if not 1 <= top_k <= split.routing.experts:
        raise ParameterError(f"top_k={top_k}: take 1 to {split.routing.experts}")
    return replace(split, routing=replace(split.routing, top_k=top_k))
