"""An ordinary smaller encoder out of one that was trained at several sizes: its forward pass stops at the layer, its vectors are short.

Enters: a model and a size. Leaves: a model of sentence-transformers' own modules: the transformer with its first layers, the pooling, a
fixed projection onto the first dimensions, unit length again.
"""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from torch import nn

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.errors import EvaluationError
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.text.loading import content_hash, load
from regraft.text.sizes.exits import backbone_of, exits, layers_of, shape_of, tail_of
from regraft.text.sizes.size import Kept, Size, keep, kept, sizes_of

PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")  # entries of a config that are one a layer
PROBE = ("a text to compare both by", "and another")
CLOSE = 1e-4  # largest difference of a vector's entry, relative to its length


def cut_to(model: SentenceTransformer, size: Size, *, normalize: bool = True) -> SentenceTransformer:
    """A copy of `model` with the first `size[0]` layers and `size[1]` dimensions; layers above are not copied.

    Raises `EvaluationError` where the copy does not give the vectors of the model's own exit: then this architecture cannot be cut so.
    """
    full = shape_of(model)
    sizes_of(full, [size])
    layers, width = size
    body = copied(model[0], layers)
    modules: list[nn.Module] = [body, *copy.deepcopy(tail_of(model))]
    if width < full[1]:
        selection = torch.eye(width, full[1], dtype=next(body.parameters()).dtype)
        dense = Dense(full[1], width, bias=False, activation_function=None, init_weight=selection)
        modules.append(dense.requires_grad_(False))  # a choice of dimensions, nothing to learn
    if normalize:
        modules.append(Normalize())
    small = SentenceTransformer(modules=modules, device=str(model.device), similarity_fn_name=model.similarity_fn_name)
    small.prompts, small.default_prompt_name = dict(model.prompts), model.default_prompt_name
    if (known := getattr(body.auto_model.config, "regraft_sizes", None)) is not None:
        own = kept(body.auto_model.config)
        inside = [one for one in own.sizes if one[0] <= layers and one[1] <= width]
        keep(body.auto_model.config, inside or [size], normalize=bool(known["normalize"]))
    _check(model.eval(), small.eval(), size, normalize)
    return small


def copied(body: Any, layers: int) -> Any:
    """A copy of a transformer module (sentence-transformers' or the backbone itself) with its first `layers` layers."""
    backbone = getattr(body, "auto_model", body)
    with _shortened(backbone, layers):
        small = copy.deepcopy(body)
    config = getattr(small, "auto_model", small).config.get_text_config()
    for name in PER_LAYER:
        if isinstance(listed := getattr(config, name, None), list):
            setattr(config, name, listed[:layers])
    config.num_hidden_layers = layers
    return small


def cut(source: str | Path, size: Size, *, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write the encoder of `source` at `size` to `out`; it must have been trained at that size.

    Raises `ParameterError` with the nearest sizes for one that was not trained, `CheckpointError` for a model that was trained at none.
    """
    start = time.perf_counter()
    root = Path(source) if Path(source).is_dir() else Checkpoint.open(source).path
    check_output(out, overwrite=overwrite, sources=[root])
    with step(f"loading {root.name}"):
        model = load(root)
    own = sizes_kept(model, str(source))
    own.check(size)
    small = cut_to(model, size, normalize=own.normalize)
    figures = {
        "layers": size[0],
        "dimensions": size[1],
        "parameters": _parameters(small),
        "parameters_before": _parameters(model),
    }
    with atomic_directory(out, overwrite=overwrite, sources=[root]) as temporary:
        small.save_pretrained(str(temporary), create_model_card=False)
        given = provenance.Given(root, content_hash(root))
        timings = {"all": round(time.perf_counter() - start, 3)}
        made = provenance.record(given, "text cut", method="starbucks", parameters={"size": list(size)}, timings=timings, metrics=figures)
        provenance.save(made, temporary)
    return figures | {"out": str(out), "open": f"SentenceTransformer('{out}')", "seconds": round(time.perf_counter() - start, 1)}


def sizes_kept(model: SentenceTransformer, name: str) -> Kept:
    """The sizes that a loaded model was trained at."""
    shape_of(model)
    return kept(backbone_of(model).config, name)


@contextmanager
def _shortened(backbone: nn.Module, layers: int) -> Iterator[None]:
    path, listed = layers_of(backbone)
    owner, _, name = path.rpartition(".")
    holder = backbone.get_submodule(owner)
    setattr(holder, name, nn.ModuleList(list(listed)[:layers]))
    try:
        yield
    finally:
        setattr(holder, name, listed)


@torch.inference_mode()
def _check(model: SentenceTransformer, small: SentenceTransformer, size: Size, normalize: bool) -> None:
    features = {
        key: value.to(model.device) if isinstance(value, torch.Tensor) else value for key, value in model.preprocess(list(PROBE)).items()
    }
    wanted = exits(model, [features], [size[0]])[size[0]][0][:, : size[1]]
    wanted = nn.functional.normalize(wanted, dim=1) if normalize else wanted
    found = small.encode(list(PROBE), convert_to_tensor=True, show_progress_bar=False)
    far = float((wanted - found).abs().max() / wanted.norm(dim=1).max())
    if not far < CLOSE:
        name = type(model[0].auto_model).__name__
        raise EvaluationError(f"{name} cut to {size[0]} layers gives other vectors than its own layer {size[0]} (by {far:.1e}): not cut")


def _parameters(model: nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())
