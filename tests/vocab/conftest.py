"""Intervals of a tenth of the draws: what they are is tested in `tests/evaluation/`, and a comparison has one a row."""

from collections.abc import Iterator

import pytest

from regraft.evaluation import paired, score


@pytest.fixture(autouse=True, scope="session")
def _few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(paired.paired_effect.__kwdefaults__, "draws", paired.DRAWS // 10)
        patch.setattr(score, "DRAWS", score.DRAWS // 10)
        yield
