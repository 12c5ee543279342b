"""What --train becomes."""

from regraft.cli.adapt import training_from


def test_a_curve_is_drawn_at_six_points_or_not_at_all():
    assert training_from("20", None).evaluate_every == 4
    assert training_from("10", None, curve=False).evaluate_every is None
    assert training_from("0", None) is None
