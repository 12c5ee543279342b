"""The toy pipeline and pictures of a concept that it has no word for, as a user would have them: a directory each."""

import shutil
from pathlib import Path
from typing import Any

from regraft.concepts.toy import WEIGHTS
from regraft.output import atomic_directory

PICTURES = Path(__file__).parent / "pictures"


def write_example(out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write `pipeline/` and `pictures/` into `out`. Raises `OutputError`: it is in the way."""
    with atomic_directory(out, overwrite=overwrite) as folder:
        shutil.copytree(WEIGHTS, folder / "pipeline")
        shutil.copytree(PICTURES, folder / "pictures")
    return {"out": str(out), "pipeline": str(out / "pipeline"), "pictures": len(list(PICTURES.glob("*.png")))}
