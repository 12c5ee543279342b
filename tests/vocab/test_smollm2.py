"""The main job on a real model, from the command's functions to what plain transformers loads.

What a comparison does whatever the model is tested on a toy (`test_compare.py`).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.evaluation.checkpoint import evaluate
from regraft.graft import ORIGINS, Graft
from regraft.method import list_methods
from regraft.training import Training
from regraft.vocab.adapt import adapt
from regraft.vocab.compare import compare

KEYS = {
    "method",
    "bits_per_byte",
    "bits_per_byte_after",
    "drift_bits_per_byte",
    "tokens_per_byte",
    "greedy_hits",
    "in_hull",
    "seconds",
    "peak_mb",
}
pytestmark = pytest.mark.timeout(1200)  # it waits its turn where many processes share the machine
PARIS = "The capital of France is"


@pytest.fixture(scope="module")
def adapted(smollm2: Path, notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "clinical"
    training = Training(steps=2, parameters="rows", block=64, batch_size=2, accumulate=1, lr=1e-3)
    done = adapt(smollm2, corpus=[notes], out=out, extend=40, method="merge", training=training, score_bytes=600)
    assert [stage.name for stage in done.stages] == ["untouched", "grafted", "trained"]
    assert done.metrics["unreachable"] == 0
    return out


def test_the_result_is_an_ordinary_checkpoint(smollm2: Path, adapted: Path) -> None:
    old, new = AutoModelForCausalLM.from_pretrained(smollm2), AutoModelForCausalLM.from_pretrained(adapted)
    tokenizer = AutoTokenizer.from_pretrained(adapted)
    assert new.config.vocab_size == 49152 + 40
    assert torch.equal(new.get_input_embeddings().weight[:49152], old.get_input_embeddings().weight)
    assert torch.equal(new.model.layers[7].mlp.up_proj.weight, old.model.layers[7].mlp.up_proj.weight)
    ids = tokenizer(PARIS, return_tensors="pt").input_ids
    assert ids.tolist() == AutoTokenizer.from_pretrained(smollm2)(PARIS, return_tensors="pt").input_ids.tolist()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads would share the wider head out otherwise, and sum in another order
    with torch.inference_mode():
        assert torch.equal(new.model(ids).last_hidden_state, old.model(ids).last_hidden_state)
        assert torch.equal(new(ids).logits[..., :49152], old(ids).logits)
    torch.set_num_threads(threads)
    assert len(tokenizer("echocardiography").input_ids) < len(AutoTokenizer.from_pretrained(smollm2)("echocardiography").input_ids)


def test_every_row_has_an_origin_and_the_map_explains_it(adapted: Path) -> None:
    graft, origins = Graft.load(adapted / "graft.npz"), np.load(adapted / "origins.npy", allow_pickle=False)
    assert graft.shape == (49192, 49152)
    assert [ORIGINS[code] for code in np.unique(origins)] == ["copied", "combined"]
    assert graft.explain(5) == [(5, 1.0)]
    assert sum(weight for _, weight in graft.explain(49152 + 3, top=100)) == pytest.approx(1.0)
    assert graft.certificate().inside == 1.0


def test_provenance_and_undo(smollm2: Path, adapted: Path, tmp_path: Path) -> None:
    record = provenance.read(adapted)
    assert record["verb"] == "adapt"
    assert record["method"]["name"] == "merge"
    assert record["source"]["hash"] == Checkpoint.open(smollm2).source_hash()
    untouched, grafted, _ = record["metrics"]["stages"]
    assert untouched["domain"]["bits_per_byte"] > 0
    assert grafted["greedy_hits"] == 0  # its rows are in the hull
    assert grafted["domain"]["tokens_per_document"] < untouched["domain"]["tokens_per_document"]
    provenance.undo(adapted, tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (smollm2 / "model.safetensors").read_bytes()
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == (smollm2 / "tokenizer.json").read_bytes()


def test_evaluate_agrees_with_adapt(adapted: Path, notes: Path) -> None:
    _, figures = evaluate(adapted, [notes], score_bytes=600)
    low, high = figures["interval"]
    assert low <= figures["bits_per_byte"] <= high
    assert 0 < figures["tokens_per_byte"] < 1


@pytest.mark.slow
def test_compare_has_a_row_for_every_method(smollm2: Path, notes: Path, tmp_path: Path) -> None:
    """Random rows cost most; rows in the hull leave greedy decoding alone (how the other starts rank is a matter of the text)."""
    methods = ["univariate", "mean", "constituent-mean"]
    done = compare(smollm2, corpus=[notes], extend=40, methods=methods, training=None, score_bytes=600, out=tmp_path)
    rows = {row["method"]: row for row in done.rows}
    assert done.rows[0]["method"] == "untouched"
    assert all(row.keys() >= KEYS and row["error"] is None for row in done.rows)
    assert rows["untouched"]["bits_per_byte"] < rows["constituent-mean"]["bits_per_byte"] < rows["univariate"]["bits_per_byte"]
    assert (rows["constituent-mean"]["in_hull"], rows["univariate"]["in_hull"]) == (1.0, 0.0)
    assert rows["mean"]["greedy_hits"] == 0
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"] == done.rows
    again = compare(smollm2, corpus=[notes], extend=40, methods=methods, training=None, score_bytes=600, out=tmp_path)
    assert again.rows == done.rows, "finished rows are not measured again"


@pytest.mark.slow
def test_every_start_that_needs_no_more_than_a_table_has_a_row(smollm2: Path, notes: Path) -> None:
    names = [cls.name for cls in list_methods("initializer") if not getattr(cls, "needs", ())]
    done = compare(smollm2, corpus=[notes], extend=8, methods=names, training=None, score_bytes=150, source_text=[notes])
    assert {row["method"] for row in done.rows} == {"untouched", *names}
    assert [row["error"] for row in done.rows if row["error"]] == []


@pytest.mark.slow
def test_auto_is_never_worse_than_the_mean_of_the_pieces(smollm2: Path, notes: Path) -> None:
    """On a corpus this small a second of learning: what it keeps must still not be worse than where it started."""
    settings = {"auto": {"steps": 2, "block": 32, "batch_size": 2}}
    done = compare(
        smollm2, corpus=[notes], extend=20, methods=["auto", "constituent-mean"], settings=settings, training=None, score_bytes=1000
    )
    rows = {row["method"]: row for row in done.rows}
    assert rows["auto"]["error"] is None
    assert rows["auto"]["bits_per_byte"] <= rows["constituent-mean"]["bits_per_byte"] + 1e-6
    assert rows["auto"]["drift_bits_per_byte"] <= 0.02 * rows["untouched"]["ordinary_bits_per_byte"]
