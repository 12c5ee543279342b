"""What `regraft concept decode source` and `sample` do: a source of embeddings learned and written; embeddings drawn from one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.concepts.decode.large import in_grids
from regraft.concepts.decode.pictures import Rows, read_embeddings
from regraft.concepts.decode.sources import ClassSource, GridSource, class_number, open_source
from regraft.errors import InputError, ParameterError
from regraft.output import atomic_directory, atomic_file, check_output
from regraft.provenance import Given, record, save


def learn_source(
    out: Path,
    embeddings: Path,
    *,
    labels: Path | None = None,
    features: Path | None = None,
    shape: tuple[int, int] | None = None,
    steps: int = 1000,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """A `ClassSource` of single embeddings with labels, a `GridSource` of grids, or of anything with features.

    Raises `InputError`: other numbers of labels, features or grids; `ParameterError`: neither or both of labels and features.
    """
    if (labels is None) == (features is None):
        raise ParameterError("give --labels (one a line) or --features (.npy), one of them")
    check_output(out, overwrite=overwrite)
    rows = read_embeddings(embeddings)
    single = rows.ndim == 2 and shape is None
    grids = rows[:, None, None] if single else in_grids(rows, shape)
    names = [] if labels is None else _lines(labels, len(grids))
    classes = tuple(sorted(set(names)))
    found: ClassSource | GridSource
    if single and labels is not None:
        found = ClassSource.fit(rows, names)
    else:
        asked = _one_hot(classes, names) if features is None else read_embeddings(features, len(grids))
        found = GridSource.fit(grids, asked, classes=classes, steps=steps, seed=seed)
    with atomic_directory(out, overwrite=overwrite) as folder:
        if isinstance(found, ClassSource):
            found.save(folder)
        else:
            found.save_pretrained(folder)
        save(record(Given(embeddings), "concept decode source", parameters={"steps": steps, "classes": classes}, seed=seed), folder)
    kind = "a normal distribution a class" if isinstance(found, ClassSource) else "a diffusion model of grids"
    return {"kind": kind, "examples": len(grids), "grid": list(grids.shape[1:3]), "classes": list(classes)}


def sample_source(
    folder: Path, out: Path, *, label: str | None = None, features: Path | None = None, count: int = 1, guidance: float = 1.0, seed: int = 0
) -> dict[str, Any]:
    """Draw from a source into an .npy. Raises `InputError`: a class that it does not know, features of another width."""
    if out.suffix != ".npy":
        raise InputError(f"--out {out}: name a file that ends in .npy")
    found: Any = open_source(folder)
    draw = torch.Generator().manual_seed(seed)
    if isinstance(found, ClassSource):
        if label is None:
            raise ParameterError(f"--label: this source has classes: choose {', '.join(found.classes)}")
        rows = found.draw(label, count, draw)
    else:
        classes = tuple(found.config.classes)
        if classes and label is None:
            raise ParameterError(f"--label: this source has classes: choose {', '.join(classes)}")
        if not classes and features is None:
            raise ParameterError(f"--features: this source was trained on features {found.config.condition} wide: give an .npy")
        asked = _one_hot(classes, [label or ""] * count) if classes else read_embeddings(features or "")
        rows = found.draw(asked, guidance_scale=guidance, generator=draw)
    with atomic_file(out) as part, part.open("wb") as file:
        np.save(file, rows, allow_pickle=False)
    return {"shape": list(rows.shape)}


def _one_hot(classes: tuple[str, ...], names: list[str]) -> Rows:
    return np.eye(len(classes), dtype=np.float32)[[class_number(classes, name) for name in names]]


def _lines(path: Path, count: int) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: no such file of labels, one a line")
    found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if len(found) != count:
        raise InputError(f"{path}: {len(found):,} labels for {count:,} embeddings or grids: needs one a line, in their order")
    return found
