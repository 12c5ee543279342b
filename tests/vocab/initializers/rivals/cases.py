"""The inputs on which regraft and the packages it stands beside are compared; made up, from fixed seeds."""

import numpy as np

TEMPERATURES = [(10, 0.1), (3, 1.0), (1, 0.1)]  # WECHSEL's k and tau
PAIRS = [("House", "nhà"), ("tree", "cây"), ("WATER", "nước"), ("fire", "lửa"), ("absent", "lửa"), ("Tree", "Cây")]


def make_vectors():
    """New tokens (12, 8) and old ones (30, 8)."""
    draw = np.random.default_rng(0)
    return draw.standard_normal((12, 8)).astype(np.float32), draw.standard_normal((30, 8)).astype(np.float32)


def make_words():
    """Word vectors of two languages, 4 numbers each; some words in several cases."""
    draw = np.random.default_rng(1)
    source = {word: draw.standard_normal(4).astype(np.float32) for word in ("house", "House", "tree", "water", "fire", "Fire")}
    target = {word: draw.standard_normal(4).astype(np.float32) for word in ("nhà", "Nhà", "cây", "nước", "Nước", "lửa", "đá")}
    return source, target
