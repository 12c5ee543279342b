"""What --train becomes."""

import pytest

from regraft.cli.adapt import training_from
from regraft.errors import ParameterError

TABLES = ["parameters=lora", "lora_tables=true"]


def test_a_curve_is_drawn_at_six_points_or_not_at_all():
    assert training_from("20", None).evaluate_every == 4
    assert training_from("10", None, curve=False).evaluate_every is None
    assert training_from("0", None) is None


def test_old_rows_are_frozen_unless_adapters_on_the_tables_change_them():
    for settings, frozen in ((None, True), (["parameters=lora"], True), (TABLES, False), (["freeze_old_rows=false"], False)):
        assert training_from("20", settings).freeze_old_rows == frozen
    with pytest.raises(ParameterError, match="freeze_old_rows=True with lora_tables=True"):
        training_from("20", [*TABLES, "freeze_old_rows=true"])
