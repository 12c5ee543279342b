"""What users are told of speed: tokens a document, bytes and characters a decoding step."""

import json

import pytest

from regraft.evaluation.checkpoint import evaluate
from regraft.vocab.adapt import adapt
from regraft.vocab.report.adapt_report import stage_rows
from toys.directory import domain_texts, save_decoder

STEPS = ("bytes_written_per_second", "bytes_per_step", "characters_per_step")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_decoder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "domain.txt"
    texts = domain_texts()
    path.write_text("\n\n".join(" ".join(texts[i : i + 5]) for i in range(0, len(texts), 5)), encoding="utf-8")
    return path


def test_adapt_reports_what_a_document_and_a_step_hold_before_and_after(model, corpus, tmp_path):
    done = adapt(model, corpus=[corpus], extend=40, out=tmp_path / "out", score_bytes=3000)
    untouched, grafted = done.metrics["stages"]
    assert grafted["domain"]["tokens_per_document"] < untouched["domain"]["tokens_per_document"]
    assert all(grafted[name] > untouched[name] > 0 for name in STEPS[1:])
    assert untouched["characters_per_step"] < untouched["bytes_per_step"]  # some of the words are Cyrillic
    rows = {row["figure"]: row for row in stage_rows(done.stages)}
    for unit in ("bytes", "characters"):
        row = rows[f"held-out text: {unit} per decoding step"]
        assert [row["untouched"], row["grafted"]] == [f"{stage[f'{unit}_per_step']:.2f}" for stage in (untouched, grafted)]
    assert rows["held-out text: tokens per document"]["grafted"] == f"{grafted['domain']['tokens_per_document']:,.1f}"


def test_evaluate_counts_tokens_a_document_and_with_generate_bytes_and_characters_a_step(model, corpus):
    _, plain = evaluate(model, [corpus], score_bytes=2000)
    assert plain["tokens_per_document"] == pytest.approx(plain["tokens"] / plain["documents"])
    assert not plain.keys() & set(STEPS)
    report, figures = evaluate(model, [corpus], score_bytes=2000, generate=True)
    assert 0 < figures["characters_per_step"] < figures["bytes_per_step"]
    assert json.dumps(report.to_json()).count("characters_per_step") >= 1
