"""Starts for new rows, one file each. A file dropped here is found by name; nothing else needs to change."""

import importlib
import pkgutil

from regraft.vocab.initializer import Initializer

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Initializer"]
