import importlib
import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import regraft.reproductions as reproductions
from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.evaluation import Score, Translation
from regraft.evaluation.chrf import ngram_counts
from regraft.method import Paper
from regraft.reproductions import available, results_table, run
from regraft.reproductions.harness import record
from regraft.reproductions.harness.claim import VERDICTS, Declared, Expectation, Sample, paired_effect
from regraft.reproductions.harness.record import RESULTS, Findings, read_records, result_path, to_record, to_report
from regraft.reproductions.harness.vocab.arms import Arm, step_costs, train_arm
from regraft.reproductions.harness.vocab.setting import Setting, score
from regraft.reproductions.harness.vocab.starts import score_starts
from regraft.tokenizer import Tokenizer
from regraft.vocab.change import extend
from regraft.vocab.initializers.merge import Merge
from toys.clock import count_looks
from toys.models import llama, texts, tokenizer

CLAIM_KEYS = {
    "claim", "data", "metric", "unit", "baseline", "baseline_value", "method_value", "effect", "interval", "seeds", "verdict", "note",
    "expected",
}  # fmt: skip
REFERENCES = ["the cat sat on a mat", "another hat and that rat", "an old map of the land", "ran far past the cat"]
AT_LEAST_HALF_LOWER = Declared("the method is at least half a bit lower", "the old way", Expectation(high=-0.5))


def bits(offset=0.0, seeds=1, documents=40, spread=0.0, noise=0.0):
    """Documents of 100 bytes that cost 1 to 5 bits a byte; `spread` moves whole seeds, `noise` single documents."""
    rng = np.random.default_rng(7)
    hard = rng.uniform(1, 5, documents)
    own = np.random.default_rng(8)
    per_byte = hard + offset + spread * own.normal(size=(seeds, 1)) + noise * own.normal(size=(seeds, documents))
    return Sample(100 * per_byte, np.full(per_byte.shape, 100.0))


# The verdict


@pytest.mark.parametrize(
    ("expected", "low", "high", "verdict"),
    [
        (Expectation(high=-0.5), -0.9, -0.6, "reproduced"),
        (Expectation(high=-0.5), -0.9, -0.5, "reproduced"),
        (Expectation(high=-0.5), -0.6, -0.4, "inconclusive"),
        (Expectation(high=-0.5), -0.4, -0.1, "not reproduced"),  # right direction, too small to count
        (Expectation(high=-0.5), 0.1, 0.2, "not reproduced"),
        (Expectation(low=0.4), 0.5, 0.9, "reproduced"),
        (Expectation(low=0.4), 0.1, 0.3, "not reproduced"),
        (Expectation(-0.1, 0.1), -0.05, 0.09, "reproduced"),
        (Expectation(-0.1, 0.1), -0.2, 0.2, "inconclusive"),  # too wide to say that they are equal
        (Expectation(-0.1, 0.1), 0.11, 0.2, "not reproduced"),
        (Expectation(high=0.0), math.nan, math.nan, "inconclusive"),
    ],
)
def test_verdict_follows_from_the_interval(expected, low, high, verdict):
    assert expected.judge(low, high) == verdict


@pytest.mark.parametrize(("low", "high"), [(-math.inf, math.inf), (1.0, 0.0), (math.nan, 1.0)])
def test_an_expectation_that_nothing_could_refute_is_refused(low, high):
    with pytest.raises(ParameterError, match="can't be tested"):
        Expectation(low, high)


@pytest.mark.parametrize(
    ("offset", "verdict"), [(-0.8, "reproduced"), (-0.5, "inconclusive"), (-0.2, "not reproduced"), (0.3, "not reproduced")]
)
def test_a_declared_claim_can_end_in_each_verdict(offset, verdict):
    claim = AT_LEAST_HALF_LOWER.settle("made", bits(), bits(offset, noise=0.3))
    assert claim.verdict == verdict
    assert claim.interval[0] <= claim.effect <= claim.interval[1]


# The interval


def test_a_constant_shift_has_no_uncertainty_however_hard_the_documents():
    found = paired_effect(bits(), bits(-0.8))
    assert (found.effect, found.low, found.high) == pytest.approx((-0.8, -0.8, -0.8))
    halved = Sample(bits().amounts / 2, bits().sizes)
    ratio = paired_effect(bits(), halved, "ratio")
    assert (ratio.effect, ratio.low, ratio.high) == pytest.approx((-0.5, -0.5, -0.5))


def test_seeds_that_disagree_widen_the_interval_and_documents_alone_do_not_hide_it():
    agreed, scattered = (paired_effect(bits(), bits(-0.8, seeds=3, spread=s)) for s in (0.0, 2.0))
    assert agreed.high - agreed.low < 1e-9
    assert scattered.high - scattered.low > 0.3
    assert scattered.seeds == 3


def test_equal_seeds_are_paired():
    found = paired_effect(bits(seeds=3, spread=2.0), bits(-0.8, seeds=3, spread=2.0))
    assert (found.low, found.high) == pytest.approx((-0.8, -0.8))


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng, inside = np.random.default_rng(0), 0
    for trial in range(200):
        before = rng.uniform(1, 5, 60)
        found = paired_effect(Sample.of(before), Sample.of(before - 0.3 + rng.normal(0, 0.5, 60)), draws=200, seed=trial)
        inside += found.low <= -0.3 <= found.high
    assert 178 <= inside <= 199  # 95 % of 200, less what a percentile bootstrap of 60 documents falls short


def test_long_documents_weigh_more():
    sample = Sample.of([10.0, 400.0], [10.0, 100.0])
    assert sample.value == pytest.approx(410 / 110)


def test_gap_between_two_samples_and_its_refusal():
    gap = bits(1.0, seeds=2) - bits(0.25)
    assert gap.seeds == 2
    assert gap.value == pytest.approx(0.75)
    with pytest.raises(ParameterError, match="same documents"):
        bits() - bits(documents=3)
    with pytest.raises(ParameterError, match="same documents"):
        paired_effect(bits(), bits(documents=3))


def test_gap_of_ratios_with_sizes_of_their_own_is_the_difference_of_their_values():
    """Such as F1, whose denominator differs between two ways; against a gap of nothing it is that gap."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 5, (2, 3, 50)).astype(float)
    above, below = (Sample(2 * part, 2 * part + rng.integers(1, 4, part.shape)) for part in found)
    gap = above - below
    assert gap.value == pytest.approx(above.value - below.value)
    plain, beside_nothing = paired_effect(below, above), paired_effect(above - above, gap)
    assert (beside_nothing.effect, beside_nothing.low, beside_nothing.high) == pytest.approx((plain.effect, plain.low, plain.high))
    with pytest.raises(ParameterError, match="documents and seeds"):
        Sample(found[0], found[0] + 1) - Sample(found[1, :2], found[1, :2] + 1)


def test_sample_of_scores_is_their_bits_per_byte():
    score = Score(np.array([8.0, 2.0]), np.array([4, 1]), 3, 2, 5, 3, 0, 1.0)
    assert Sample.of_scores([score, score]).value == pytest.approx(score.bits_per_byte)


# The record


def findings():
    claims = [AT_LEAST_HALF_LOWER.settle("made | text", bits(), bits(offset, noise=0.1)) for offset in (-0.9, 0.2)]
    return Findings(Paper("A title", "One et al.", 2024, "1234.5678"), claims, {"curve": [[0, math.nan]]}, {"Rows": [{"a": 1}]})


def test_unknown_method_names_those_that_exist():
    names = available()
    assert {"ast-probe", "k-tokeniser", "rankme", "token-distillation-nouns", "zip-tie"} < set(names)
    assert not {"harness", "results"} & set(names)
    with pytest.raises(ParameterError, match=f"choose one of {', '.join(names)}"):
        run("ziptie")


def test_run_writes_the_result_where_it_belongs(tmp_path, monkeypatch):
    import regraft.reproductions.zip_tie as script

    asked = []
    monkeypatch.setattr(script, "reproduce", lambda quick: asked.append(quick) or findings())
    result, path, report = run("zip_tie", quick=True, out=tmp_path)
    assert asked == [True]
    assert path == tmp_path / "zip-tie.quick.json"
    assert json.loads(path.read_text()) == result
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing half-written is left
    assert result["curve"] == [[0, None]]  # JSON has no NaN
    assert {c["verdict"] for c in result["claims"]} == {"reproduced", "not reproduced"}
    assert "1 reproduced, 1 not reproduced" in report.lead
    assert "not a result" in report.lead


def test_a_script_gets_the_device_only_if_it_can_use_one(tmp_path, monkeypatch):
    import regraft.reproductions.k_tokeniser as able
    import regraft.reproductions.zip_tie as unable

    asked = []
    monkeypatch.setattr(unable, "reproduce", lambda quick: findings())
    monkeypatch.setattr(able, "reproduce", lambda quick, device="cpu": asked.append(device) or findings())
    with pytest.raises(ParameterError, match="--device meta: the reproduction of zip-tie runs on the CPU"):
        run("zip-tie", quick=True, out=tmp_path, device="meta")
    with pytest.raises(ParameterError, match="--device gpu: this machine has no such device"):
        run("k-tokeniser", quick=True, out=tmp_path, device="gpu")
    assert "gpu" not in run("k-tokeniser", quick=True, out=tmp_path)[0]
    assert run("k-tokeniser", quick=True, out=tmp_path, device="meta")[0]["gpu"] == "meta"
    assert asked == ["cpu", "meta"]


def test_a_quick_run_never_lands_among_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert result_path("zip-tie", quick=False, out=None) == RESULTS / "zip-tie.json"
    assert result_path("zip-tie", quick=True, out=None).parent == tmp_path
    monkeypatch.setattr(record, "in_checkout", lambda: False)
    assert result_path("zip-tie", quick=False, out=None).parent == tmp_path


def test_results_table_has_a_line_for_each_claim(tmp_path):
    found = to_record("zip-tie", findings(), quick=False, seconds=1.0, version=None)
    record.write_record(found, tmp_path / "zip-tie.json")
    lines = results_table(tmp_path).splitlines()
    assert len(lines) == 2 + len(found["claims"])
    columns = len(re.findall(r"(?<!\\)\|", lines[0]))
    assert all(len(re.findall(r"(?<!\\)\|", line)) == columns for line in lines)
    assert "**not reproduced**" in lines[-1]
    assert to_report("zip-tie", findings(), found).to_html().count("not reproduced") >= 1


def test_an_order_of_what_never_changes_is_no_evidence():
    ledger = record.Ledger("data")
    for expected, orders in (
        (Expectation(low=-0.8), [math.nan] * 3),
        (Expectation(high=-0.8), [-1.0, math.nan]),
        (Expectation(high=-0.8), [-1.0, -0.9]),
    ):
        ledger.settle_order(Declared("falls", "no order", expected), "text", orders)
    assert [claim.verdict for claim in ledger.claims] == ["inconclusive", "inconclusive", "reproduced"]
    assert "3 of 3 seeds" in ledger.claims[0].note


@pytest.mark.parametrize("found", read_records(), ids=lambda r: r["method"])
def test_committed_results_keep_the_contract_and_their_verdicts_follow_from_their_numbers(found):
    assert list(found)[:8] == ["method", "paper", "commit", "versions", "cpu", "seconds", "quick", "claims"]
    assert found["method"] in available()
    assert found["quick"] is False
    assert found["commit"]
    assert "dirty" not in found["commit"]
    assert {"regraft", "torch", "transformers"} <= found["versions"].keys()
    assert found["claims"]
    for claim in found["claims"]:
        assert claim.keys() == CLAIM_KEYS
        assert claim["verdict"] in VERDICTS
        low, high = claim["interval"]
        assert low <= high
        assert claim["seeds"] >= 1
        assert expectation(claim["expected"]).judge(low, high) == claim["verdict"]
        change = claim["method_value"] - claim["baseline_value"]
        if claim["expected"].startswith("relative"):
            change /= claim["baseline_value"]
        assert claim["effect"] == pytest.approx(change, abs=1e-6)


def expectation(text):
    """The expectation that a result's words state."""
    words = text.partition("effect ")[2]
    if words.startswith("<="):
        return Expectation(high=float(words[2:]))
    if words.startswith(">="):
        return Expectation(low=float(words[2:]))
    low, _, high = words.partition(" to ")
    return Expectation(float(low), float(high))


@pytest.mark.parametrize("expected", [Expectation(high=-0.5), Expectation(low=0.4), Expectation(-0.1, 0.1)])
def test_an_expectation_says_what_it_is(expected):
    assert expectation(f"effect {expected}") == expected


# Arms


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    llama().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    old = Tokenizer.from_directory(folder)
    learn = [" ".join(f"ngu{c}n th{c}m" for c in "aeiou"[: 1 + i % 5]) for i in range(200)]
    change = extend(old, learn, 6)
    return Setting(
        language="Vietnamese", data="made", target=learn, english=texts(100), target_held_out=learn[:5], english_held_out=texts(100)[:4],
        checkpoint=Checkpoint.open(folder), tokenizer=old, change=change,
    )  # fmt: skip


def arm(start, **settings):
    return Arm("arm", start, {"parameters": "rows", "block": 16, "batch_size": 2, "lr": 0.05, "precision": "fp32", **settings})


def test_an_arm_reports_its_curve_in_steps_and_processor_time(setting):
    trained = train_arm(setting, arm(Merge()), steps=12, points=2)
    assert [p["step"] for p in trained.curve] == [0, 4, 8, 12]
    seconds = [p["cpu_seconds"] for p in trained.curve]
    assert seconds[0] == 0
    assert seconds == sorted(seconds)
    assert trained.cpu_seconds == seconds[-1] > 0
    assert trained.curve[0]["vietnamese"] == pytest.approx(trained.target_before.bits_per_byte)
    assert trained.curve[-1]["vietnamese"] == pytest.approx(trained.target.bits_per_byte)
    assert trained.curve[-1]["vietnamese"] < trained.curve[0]["vietnamese"]
    json.dumps(trained.to_dict(), allow_nan=False)


def test_an_arm_shows_its_trained_model_before_it_is_dropped(setting):
    seen = []
    trained = train_arm(setting, arm(Merge()), steps=2, points=0, then=lambda subject: seen.append(score(subject, setting.target_held_out)))
    assert [s.bits_per_byte for s in seen] == pytest.approx([trained.target.bits_per_byte])


def test_starts_are_scored_beside_the_untouched_model(setting):
    untouched = setting.untouched()
    before = score(untouched, setting.target_held_out), score(untouched, setting.english_held_out)
    found, rows, subject = score_starts(replace(setting, language="Sinhala"), {"univariate": 2, "merge": 1}, before)
    assert [row["start"] for row in rows] == ["untouched", "univariate", "merge"]
    assert rows[0]["si"] == before[0].bits_per_byte
    assert [len(found[name].target) for name in ("univariate", "merge")] == [2, 1]
    assert found["univariate"].target[0].bits_per_byte != found["univariate"].target[1].bits_per_byte
    assert rows[2]["si"] == found["merge"].target[0].bits_per_byte == score(subject, setting.target_held_out).bits_per_byte


def test_an_arm_without_a_start_keeps_the_old_vocabulary(setting):
    model, tokens = arm(None).prepare(setting)
    assert len(tokens) == len(setting.tokenizer.pieces)
    assert model.get_input_embeddings().num_embeddings == setting.checkpoint.layout.rows
    started, extended = arm(Merge()).prepare(setting)
    assert len(extended) == len(tokens) + len(setting.change.new_ids)
    assert started.get_input_embeddings().num_embeddings >= len(extended)


def test_an_untied_arm_trains_adapters_on_both_tables(setting):
    both = arm(Merge(), parameters="lora", lora_tables=True, lora_r=2, replay=0.25)
    with pytest.raises(ParameterError, match="untie"):
        train_arm(setting, both, steps=1, points=0)
    trained = train_arm(setting, Arm(both.name, both.start, both.settings, untied=True), steps=3, points=0)
    assert trained.steps == 3
    assert [p["step"] for p in trained.curve] == [0, 3]


def test_step_costs_leave_out_the_first_step_of_a_turn(setting):
    listed = [Arm("a", Merge(), arm(Merge()).settings), Arm("b", None, arm(None, parameters="2x2").settings)]
    costs = step_costs(setting, listed, rounds=2, steps=3)
    assert {name: len(values) for name, values in costs.items()} == {"a": 6, "b": 6}
    assert all(value > 0 for values in costs.values() for value in values)


def test_steps_to_the_same_loss_are_read_off_the_curves():
    from regraft.reproductions.zip_tie import DEFAULT, SOONER, steps_to_last_loss

    def run(*bits):
        curve = [{"step": 15.0 * i, "vietnamese": value} for i, value in enumerate(bits)]
        return SimpleNamespace(curve=curve, steps=15 * (len(bits) - 1))

    others, own = [run(3.9, 3.1, 2.4), run(3.9, 3.0, 2.3)], [run(2.7, 2.3, 2.1), run(2.7, 2.31, 2.3)]
    claim = SOONER[DEFAULT].settle("made", *steps_to_last_loss(others, own))
    assert (claim.baseline_value, claim.method_value) == (30.0, 22.5)  # 15 and 30 steps
    assert claim.interval == [-15.0, 0.0]
    assert claim.verdict == "inconclusive"
    assert SOONER[DEFAULT].settle("made", *steps_to_last_loss(others[:1], own[:1])).verdict == "reproduced"
    assert SOONER[DEFAULT].settle("made", *steps_to_last_loss(own, others)).verdict == "not reproduced"


def test_translations_settle_what_was_declared_of_them(setting):
    import regraft.reproductions.lowres_sinhala as script

    def wrote(texts, each):
        counts = ngram_counts(texts, REFERENCES)
        return Translation(texts, REFERENCES, counts, np.full(len(texts), each), seconds=1.0, signature="made")

    found = script.Run("made", setting=setting, size=script.QUICK, pairs=[], before=(None, None))
    half = [text[: len(text) // 2] for text in REFERENCES]
    translations = {script.LAPT: [wrote(half, 20)] * 2, script.EXPANSION: [wrote(half, 10)] * 2}
    script.settle_translations(found, wrote(half, 20), translations)
    assert [(c.claim, c.verdict, c.seeds) for c in found.claims] == [
        (script.LONGER_STEPS.claim, "reproduced", 2),
        (script.TRANSLATES.claim, "reproduced", 2),
    ]
    assert [c.effect for c in found.claims] == pytest.approx([1.0, 0.0])
    assert [row["model"] for row in found.extra["translations"]][:2] == ["untouched", f"{script.LAPT}, seed 0"]
    script.settle_translations(found, wrote(half, 20), translations | {script.EXPANSION: [wrote(["?"] * len(half), 20)] * 2})
    assert [c.verdict for c in found.claims[2:]] == ["not reproduced", "not reproduced"]


def test_every_module_beside_the_harness_is_a_script():
    for name in available():
        assert callable(importlib.import_module(f"{reproductions.__name__}.{name.replace('-', '_')}").reproduce)


def test_an_arm_stops_when_its_processor_time_is_spent(setting, monkeypatch):
    count_looks(monkeypatch, 0.02, "process")
    trained = train_arm(setting, arm(Merge()), cpu_seconds=0.5, points=0)
    assert trained.steps == 13  # two looks a step
    assert trained.cpu_seconds > 0
    assert len(trained.curve) == 2
