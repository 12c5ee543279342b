"""`zip-tie` with tie="average": an untied model's two tables become one, in memory, on disk and while training."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, T5Config, T5ForConditionalGeneration
from typer.testing import CliRunner

from regraft.checkpoint import Checkpoint
from regraft.cli import app
from regraft.corpus import Corpus
from regraft.errors import ParameterError
from regraft.evaluation import score_text
from regraft.graft import ORIGINS
from regraft.training.adapters import tied
from regraft.vocab.adapt import adapt
from regraft.vocab.compare import compare
from toys.models import llama, texts, tokenizer

IDS = torch.arange(5, 25).unsqueeze(0)
AVERAGE = {"method": "zip-tie", "settings": {"tie": "average"}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untied Llama, the same one tied, and a corpus."""
    root = tmp_path_factory.mktemp("base")
    for name, one in (("untied", False), ("tied", True)):
        llama(tied=one).save_pretrained(root / name)
        tokenizer().save_pretrained(root / name)
    (root / "corpus.txt").write_text("\n\n".join(f"{text} zorquix flumzor" for text in texts(80, seed=3)), encoding="utf-8")
    return root


def grafted(base, out, model="untied", **options):
    options = {"extend": 20, "score": False, "held_out": 0.2} | options
    return adapt(base / model, corpus=[base / "corpus.txt"], out=out, **options)


def opened(path):
    model, info = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def command(base, out, *options):
    fixed = ["--corpus", str(base / "corpus.txt"), "--extend", "20", "--method", "zip-tie", "--set", "tie=average", "--held-out", "0.2"]
    return CliRunner().invoke(app, ["adapt", str(base / "untied"), *fixed, "--out", str(out), "--json", *options])


@pytest.mark.parametrize("weights", ["mean", "exp_last"])
def test_every_row_is_that_of_the_average_or_started_from_it(base, tmp_path, weights):
    plain = grafted(base, tmp_path / "plain", method="zip-tie", settings={"weights": weights}).transplant
    result = grafted(base, tmp_path / "one", method="zip-tie", settings={"weights": weights, "tie": "average"}).transplant
    model, old = llama(tied=False), tokenizer().vocab_size
    average = (model.model.embed_tokens.weight.detach() + model.lm_head.weight.detach()) / 2
    assert result.shared
    assert result.head is None
    assert torch.equal(result.input[:old], average[:old])
    assert (result.graft.weights != plain.graft.weights).nnz == 0
    assert torch.equal(result.input[torch.from_numpy(result.new_ids)], plain.graft.apply(average[:old]))
    assert result.certificate.inside == 1.0
    assert set(result.origins.tolist()) == {ORIGINS.index("combined")}
    both = (result.tensors["model.embed_tokens.weight"], result.tensors["lm_head.weight"])
    assert all(table is result.input for table in both)


def test_by_default_and_in_a_tied_model_nothing_is_shared(base, tmp_path):
    for model, settings in (("untied", {}), ("untied", {"tie": False}), ("tied", {"tie": "average"})):
        result = grafted(base, tmp_path / f"{model}-{len(settings)}", model, method="zip-tie", settings=settings, overwrite=True).transplant
        plain = grafted(base, tmp_path / "plain", model, method="constituent-mean", overwrite=True).transplant
        assert not result.shared
        assert np.array_equal(result.origins, plain.origins)
        assert result.digest() == plain.digest()


def test_what_is_written_is_tied_and_computes_what_was_measured(base, tmp_path):
    result = command(base, tmp_path / "out", "--train", "2", "--train-set", "parameters=embeddings", "--train-set", "block=16")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    [group] = metrics["training"]["groups"]
    assert group["name"] == "new rows, input and head (tied)"
    assert json.loads((tmp_path / "out/config.json").read_text("utf-8"))["tie_word_embeddings"] is True
    assert "so every old row has changed" in (tmp_path / "out/report.json").read_text("utf-8")
    model = opened(tmp_path / "out")
    assert tied(model)
    assert Checkpoint.open(tmp_path / "out").layout.tied
    held_out = list(Corpus.open([base / "corpus.txt"], held_out=0.2).documents("held-out"))
    found = score_text(model, AutoTokenizer.from_pretrained(tmp_path / "out"), held_out).bits_per_byte
    assert found == pytest.approx(metrics["stages"][-1]["domain"]["bits_per_byte"], rel=1e-3)
    assert CliRunner().invoke(app, ["undo", str(tmp_path / "out")]).exit_code == 0
    before = opened(tmp_path / "out")
    assert not tied(before)
    assert torch.equal(before.lm_head.weight, opened(base / "untied").lm_head.weight)


def test_adapters_on_the_tables_part_them_again(base, tmp_path):
    options = ("parameters=lora", "lora_tables=true", "untie=true", "lora_r=2", "block=16")
    result = command(base, tmp_path / "out", "--train", "2", *(part for option in options for part in ("--train-set", option)))
    assert result.exit_code == 0, result.output
    model = opened(tmp_path / "out")
    assert not tied(model)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_the_next_method_of_a_comparison_has_two_tables_again(base):
    options = {"corpus": [base / "corpus.txt"], "extend": 20, "training": None, "held_out": 0.2}
    both = compare(base / "untied", methods=["zip-tie", "mean"], settings={"zip-tie": {"tie": "average"}}, **options)
    alone = compare(base / "untied", methods=["mean"], **options)
    figures = {row["method"]: row["bits_per_byte"] for row in both.rows}
    assert figures["mean"] == pytest.approx(alone.rows[1]["bits_per_byte"], rel=1e-6)
    assert figures["zip-tie"] != pytest.approx(figures["mean"], rel=1e-3)


def test_tables_that_cannot_be_one(base, tmp_path):
    shape = {"vocab_size": 304, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    model = T5ForConditionalGeneration(T5Config(**shape, tie_word_embeddings=False))
    model.lm_head.weight = torch.nn.Parameter(torch.randn(304, 16))
    model.save_pretrained(tmp_path / "t5")
    tokenizer().save_pretrained(tmp_path / "t5")
    with pytest.raises(ParameterError, match=r"shared\.weight and lm_head\.weight cannot become one table"):
        adapt(tmp_path / "t5", corpus=[base / "corpus.txt"], out=tmp_path / "out", extend=5, **AVERAGE)
