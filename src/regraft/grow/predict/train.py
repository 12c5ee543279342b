"""`regraft grow hypernet`: a hypernetwork, trained on a space of small architectures and one data set.

Enters: a space, examples, a method and its settings. Leaves: one safetensors file; while it is made, its state lies beside it, and the same
command goes on from there.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from regraft import provenance
from regraft.errors import OutputError, ParameterError
from regraft.grow.predict.data import BLOCK, read_examples
from regraft.grow.predict.hypernetwork.file import save
from regraft.grow.predict.hypernetwork.network import Hypernet
from regraft.grow.predict.space import Space, read_space
from regraft.grow.predict.training import MetaTraining, Targets, train
from regraft.language.loading import check_placement
from regraft.method import configure, resolve
from regraft.progress import step


def validation_of(space: Space, base: Mapping[str, Any], depth: int | None, width: int | None) -> dict[str, Any]:
    """A config outside the space to look at: by default half as wide again as the widest, of the largest depth.

    Raises `ParameterError` for a width that none of the space's numbers of heads divides.
    """
    depth = depth or space.depth[1]
    heads = space.heads if space.heads != "divisibility" else (12, 6, 4, 3)
    width = width or max(tier.width[1] for tier in space.tiers) * 3 // 2 // max(heads) * max(heads)
    fitting = [one for one in heads if width % one == 0]
    if not fitting:
        near = width // heads[0] * heads[0]
        raise ParameterError(
            f"--validate: none of {', '.join(map(str, heads))} heads divides a width of {width}: take {near} or {near + heads[0]}"
        )
    return space.fields(depth, width, fitting[0], base)


def hypernet(
    space: str,
    data: str,
    *,
    method: str,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    out: Path,
    tokenizer: str | None = None,
    block: int = BLOCK,
    validate: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train and write a hypernetwork; `validate` is ``depth,width`` of the architecture that is looked at.

    Raises `ParameterError`, `CorpusError`, `OutputError`.
    """
    start = time.perf_counter()
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: name a file that ends in .safetensors")
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: exists: choose another file or add --overwrite")
    check_placement("auto", device)
    chosen = read_space(space)
    how = configure(MetaTraining, training)
    if how.amp and not device.startswith("cuda"):
        raise ParameterError("amp is for GPUs: add --device cuda, or leave amp out")
    with step(f"reading {data}"):
        examples = read_examples(data, tokenizer, block)
    size = examples.fields.get("num_labels") or examples.fields.get("vocab_size")
    predictor = resolve("weight-predictor", method, {"classes": (size,), **settings})
    torch.manual_seed(seed)
    network = Hypernet(predictor)
    partial = out.with_name(f".{out.name}.partial")
    base = {**chosen.base, **examples.fields}
    kept = validation_of(chosen, base, *_depth_width(validate))
    looks = train(network, Targets(chosen, examples), how, seed=seed, validation=kept, device=device, partial=partial)
    best = min(looks, key=lambda one: one.loss) if looks else None
    seconds = round(time.perf_counter() - start, 1)
    record = {
        "space": chosen.model_dump(),
        "data": examples.about,
        "training": asdict(how),
        "seed": seed,
        "versions": provenance.versions(),
        "validation": {"config": kept, "looks": [[one.step, one.loss] for one in looks]},
        "seconds": seconds,
    }
    save(network, out, record)
    partial.unlink(missing_ok=True)
    return {
        "out": str(out),
        "method": predictor.name,
        "parameters": sum(one.numel() for one in network.parameters()),
        "bytes": out.stat().st_size,
        "steps": how.steps,
        "best_step": None if best is None else best.step,
        "validation_loss": None if best is None else best.loss,
        "seconds": seconds,
    }


def _depth_width(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    depth, _, width = text.partition(",")
    if not (depth.strip().isdigit() and width.strip().isdigit() and int(depth) and int(width)):
        raise ParameterError(f"--validate {text}: write depth,width, such as 4,64")
    return int(depth), int(width)
