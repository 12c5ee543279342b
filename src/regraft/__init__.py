"""regraft: give a trained model what it was not born with, without pre-training it again, and measure what that cost."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Graft", "Training", "adapt", "compare", "evaluate"]
_HOMES = {
    "Graft": ".graft",
    "Training": ".training",
    "adapt": ".vocab.adapt",
    "compare": ".vocab.compare",
    "evaluate": ".evaluation.checkpoint",
}


def __getattr__(name: str) -> Any:
    """What users call, imported when it is asked for: the command line starts without PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name], __name__), name)
