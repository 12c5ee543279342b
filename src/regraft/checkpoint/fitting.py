"""Will plain `transformers` take the files? Asked before they are written."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft.checkpoint.architecture import Architecture, load_config
from regraft.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]


def check_fits(directory: Path, config: Mapping[str, Any], stored: Shapes, new_config: Mapping[str, Any], new_stored: Shapes) -> None:
    """Raise `CheckpointError` if the architecture of `new_config` lacks, or has in another shape, what it found before.

    `stored` and `new_stored` are names and shapes in the files before and after. What did not fit before is not asked of the result.
    """
    before = Architecture(directory, config)
    if before.model is None:
        return
    try:
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            (Path(folder) / "config.json").write_text(json.dumps(new_config), "utf-8")
            after = Architecture(directory, new_config, load_config(Path(folder), new_config))
    except CheckpointError as error:
        raise CheckpointError(f"{error} (with the new vocabulary)") from None
    fitted = _fitting(before, stored)
    for name, called in _fitting(after, new_stored, told=True).items():
        if name in fitted or name not in stored:
            shape = tuple(new_stored[name])
            raise CheckpointError(
                f"{directory}: {name} would be {shape} in the new files, but transformers builds {after.shapes[called]} for it: "
                "this architecture cannot be given this vocabulary"
            )


def _fitting(architecture: Architecture, stored: Shapes, told: bool = False) -> dict[str, str]:
    """Stored name -> parameter, of those whose shapes agree, or with `told` of those whose shapes do not."""
    called = {name: one.name for name, one in architecture.names_of(stored).items() if not one.packed}
    return {n: c for n, c in called.items() if (tuple(stored[n]) == architecture.shapes[c]) != told}
