"""Weights equal to those of the packages `wechsel` and `deepfocus`; their answers lie in rivals/weights.json, made by rivals/make.py."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from regraft.graft.similarity import softmax_nearest, sparsemax_cosine
from regraft.vectors.alignment import known_pairs, orthogonal_procrustes
from regraft.vectors.tokens import Vectors

RIVALS = Path(__file__).parent / "rivals"
sys.path.insert(0, str(RIVALS))
from cases import PAIRS, TEMPERATURES, make_vectors, make_words  # noqa: E402

ANSWERS = json.loads((RIVALS / "weights.json").read_text("utf-8"))


def as_vectors(words, name):
    return Vectors(list(words), np.stack(list(words.values())), name=name)


@pytest.mark.parametrize(("k", "temperature"), TEMPERATURES)
def test_wechsel_weights_are_the_package_s(k, temperature):
    new, old = make_vectors()
    mine = softmax_nearest(new, old, k, temperature).toarray()
    np.testing.assert_allclose(mine, ANSWERS["wechsel"][f"{k} {temperature}"], atol=1e-6)


def test_wechsel_alignment_is_the_package_s():
    source, target = (as_vectors(words, name) for words, name in zip(make_words(), ("source", "target"), strict=True))
    left, right = known_pairs(source, target, PAIRS)
    mine = orthogonal_procrustes(source.matrix[left].astype(float), target.matrix[right].astype(float))
    np.testing.assert_allclose(mine, ANSWERS["wechsel alignment"], atol=1e-6)


def test_focus_weights_are_the_package_s():
    new, old = make_vectors()
    np.testing.assert_allclose(sparsemax_cosine(new, old).toarray(), ANSWERS["deepfocus"], atol=1e-6)
