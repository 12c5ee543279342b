"""Pipelines on disk and folders of pictures, made once."""

import numpy as np
import pytest
from PIL import Image

from toys.pipelines import SIDE, stable_diffusion, stable_diffusion_xl


@pytest.fixture(scope="session")
def pipeline_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "sd"
    stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def xl_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline-xl") / "xl"
    stable_diffusion_xl().save_pretrained(folder)
    return folder


@pytest.fixture
def pictures_dir(tmp_path):
    folder = tmp_path / "cat"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder
