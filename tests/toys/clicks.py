"""Rows of clicks that a site's number and a price decide, as the files that users have."""

from pathlib import Path

import numpy as np

SITES, APPS = 60, 9


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sites, apps, prices and clicks."""
    draw = np.random.default_rng(seed)
    site, app, price = draw.integers(0, SITES, count), draw.integers(0, APPS, count), draw.normal(size=count) * 50
    return site, app, price, ((site % 3 == 0) | (price > 60)).astype(int)


def write_csv(path: Path, count: int = 600, seed: int = 0) -> Path:
    """site, app, price, day, click."""
    rows = zip(*drawn(count, seed), strict=True)
    lines = [f"s{site},{app},{price:.2f},{day},{click}" for day, (site, app, price, click) in enumerate(rows)]
    path.write_text("\n".join(["site,app,price,day,click", *lines]) + "\n", encoding="utf-8")
    return path


def write_libfm(path: Path, count: int, seed: int) -> Path:
    """A label and two ids a line."""
    site, app, _, click = drawn(count, seed)
    lines = [f"{2 * c - 1} {s}:1 {SITES + a}:1" for s, a, c in zip(site, app, click, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
