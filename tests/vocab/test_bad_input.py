"""Bad input to the main job as Python sees it: the exception's kind, what it names, and nothing left behind."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from regraft.corpus import Corpus
from regraft.errors import CheckpointError, CorpusError, InputError, OutputError, ParameterError, TokenizerError
from regraft.method import list_methods
from regraft.training import Training
from regraft.vocab.adapt import adapt
from regraft.vocab.change.request import TokenizerRequest, read_words
from regraft.vocab.dry_run import estimate
from toys.directory import domain_texts, save_decoder, snapshot


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad")
    save_decoder(root / "model")
    (root / "notes.txt").write_text("\n".join(domain_texts()), encoding="utf-8")
    return root


@pytest.fixture
def model(shared, tmp_path):
    return shutil.copytree(shared / "model", tmp_path / "model")


@pytest.fixture
def notes(shared, model, tmp_path):
    return shutil.copyfile(shared / "notes.txt", tmp_path / "notes.txt")


def refuse(kind, model, corpus, **options):
    """The message with which `adapt` refuses; checks that everything around the model stays as it is."""
    folder = model.parent
    before = snapshot(folder)
    with pytest.raises(InputError) as caught:
        adapt(model, **({"corpus": [corpus], "out": folder / "new" / "out", "extend": 5, "score": False} | options))
    assert type(caught.value) is kind
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert snapshot(folder) == before
    return str(caught.value)


class TestRequest:
    @pytest.mark.parametrize("request_", [{}, {"extend": 5, "trim": True}, {"replace": "a", "words": "b"}, {"extend": 0, "words": "b"}])
    def test_exactly_one_change(self, request_):
        with pytest.raises(ParameterError, match="exactly one of --extend, --replace, --words, --trim") as caught:
            TokenizerRequest(**request_)
        assert all(name in str(caught.value).split("(got")[1] for name in request_)

    @pytest.mark.parametrize("count", [0, -1])
    def test_at_least_one_piece(self, count):
        with pytest.raises(ParameterError, match=f"--extend {count}: ask for at least 1"):
            TokenizerRequest(extend=count)

    def test_word_lists(self, tmp_path):
        path = tmp_path / "words.txt"
        path.write_text("alpha\n\n beta gamma \nalpha\n", encoding="utf-8")
        assert read_words(path) == ["alpha", "beta gamma"]
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(CorpusError, match=r"words.txt: cannot read"):
            read_words(path)


class TestAdapt:
    def test_corpus(self, model, notes, tmp_path):
        assert "no such file" in refuse(CorpusError, model, tmp_path / "absent")
        (tmp_path / "blank.txt").write_text("\n \n")
        assert "no text" in refuse(CorpusError, model, tmp_path / "blank.txt")
        with pytest.raises(CorpusError, match="no corpus"):
            adapt(model, corpus=[], out=tmp_path / "out", extend=5)
        (tmp_path / "bytes.bin").write_bytes(b"\x00" * 999)
        assert "bytes.bin" in refuse(CorpusError, model, tmp_path / "bytes.bin")

    def test_text_that_cannot_be_divided(self, model, notes, tmp_path, capsys):
        """One document is all training or all held-out text, by its hash."""
        seen = set()
        for count in range(20, 60):
            (tmp_path / "one.txt").write_text(" ".join(domain_texts(count)), encoding="utf-8")
            side = "train" if Corpus.open([tmp_path / "one.txt"], held_out=0.5).count("train") else "held-out"
            if side in seen:
                continue
            seen.add(side)
            message = refuse(CorpusError, model, tmp_path / "one.txt", held_out=0.5, score=side == "train")
            assert {"train": "nothing is held out", "held-out": "none is left to learn from"}[side] in message
            assert "separate documents with blank lines" in message
            assert "a single document" in " ".join(capsys.readouterr().err.split())
        assert seen == {"train", "held-out"}
        assert "--no-score" in refuse(CorpusError, model, notes, held_out=0, score=True)

    def test_pieces(self, model, notes, tmp_path):
        assert "the corpus supports" in refuse(TokenizerError, model, notes, extend=10**6)
        (tmp_path / "thin.txt").write_text("\n".join("abcdef"))
        assert "no pair of pieces" in refuse(TokenizerError, model, tmp_path / "thin.txt")

    def test_options(self, model, notes):
        assert "did you mean" in refuse(ParameterError, model, notes, method="meen")
        assert "no parameter 'd'" in refuse(ParameterError, model, notes, method="multivariate", settings={"d": 1})
        assert "route 'x'" in refuse(ParameterError, model, notes, route="x")
        assert "--device" in refuse(ParameterError, model, notes, device="abacus")
        assert "--pad-to-multiple-of 0" in refuse(ParameterError, model, notes, pad_to_multiple_of=0)
        assert "--dtype" in refuse(ParameterError, model, notes, dtype="int8")
        assert "held-out share" in refuse(ParameterError, model, notes, held_out=-0.1)

    def test_output(self, model, notes, tmp_path):
        assert "itself" in refuse(OutputError, model, notes, out=model)
        assert "itself" in refuse(OutputError, model, notes, out=model, overwrite=True)
        assert "inside" in refuse(OutputError, model, notes, out=model / "out")
        assert "contains" in refuse(OutputError, model, notes, out=tmp_path)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").write_text("x")
        assert "--overwrite" in refuse(OutputError, model, notes, out=tmp_path / "full")

    def test_a_link_to_the_model_is_the_model(self, model, notes, tmp_path):
        (tmp_path / "link").symlink_to(model)
        assert "itself" in refuse(OutputError, model, notes, out=tmp_path / "link", overwrite=True)

    def test_checkpoint(self, model, notes, tmp_path):
        assert "no such directory" in refuse(CheckpointError, tmp_path / "absent-model", notes)
        tensors = load_file(model / "model.safetensors")
        whole = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(whole[:-10])
        assert "model.safetensors" in refuse(CheckpointError, model, notes)
        damaged = {**tensors, "model.embed_tokens.weight": tensors["model.embed_tokens.weight"].clone()}
        damaged["model.embed_tokens.weight"][11, 3] = float("nan")
        save_file(damaged, model / "model.safetensors", metadata={"format": "pt"})
        assert "row 11 of model.embed_tokens.weight holds NaN" in refuse(CheckpointError, model, notes)
        (model / "model.safetensors").unlink()
        assert "not a checkpoint" in refuse(CheckpointError, model, notes)
        (model / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
        assert "pickle" in refuse(CheckpointError, model, notes)

    def test_tokenizer(self, model, notes):
        spec = json.loads((model / "tokenizer.json").read_text())
        (model / "tokenizer.json").write_text("{}")
        assert "tokenizer.json" in refuse(TokenizerError, model, notes)
        spec["model"]["vocab"]["far"] = 5000
        (model / "tokenizer.json").write_text(json.dumps(spec))
        assert "5001 ids but the table only 304 rows" in refuse(CheckpointError, model, notes)
        (model / "tokenizer.json").unlink()
        assert "no tokenizer.json" in refuse(TokenizerError, model, notes)

    def test_training_without_a_head(self, notes, tmp_path):
        from transformers import BertConfig, BertModel

        from toys import models as tiny_models

        config = BertConfig(vocab_size=120, hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
        BertModel(config).save_pretrained(tmp_path / "encoder")
        tiny_models.wordpiece().save_pretrained(tmp_path / "encoder")
        assert "no language-model head" in refuse(ParameterError, tmp_path / "encoder", notes, training=Training(steps=1))


class TestSurvives:
    """What looks wrong but is not."""

    def test_every_method_after_a_skipped_file(self, model, tmp_path):
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "a.txt").write_text("\n".join(domain_texts()), encoding="utf-8")
        (tmp_path / "notes" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00" * 50)
        old = load_file(model / "model.safetensors")["model.embed_tokens.weight"]
        for cls in (cls for cls in list_methods("initializer") if not cls.needs):
            out = tmp_path / cls.name
            done = adapt(model, corpus=[tmp_path / "notes"], out=out, extend=9, score=False, method=cls.name)
            table = load_file(out / "model.safetensors")["model.embed_tokens.weight"]
            assert torch.equal(table[:300], old[:300])
            assert table.shape[0] == 309
            assert done.metrics["new_tokens"] == 9
            record = json.loads((out / "regraft.json").read_text())
            assert record["method"]["name"] == cls.name
            assert [why for _, why in record["corpus"]["skipped"]]
            assert (out / "graft.npz").is_file() == (done.transplant.graft is not None)

    def test_scoring_a_vocabulary_that_cuts_all_text_anew(self, model, notes, tmp_path):
        """There is then no text on which greedy choices could be compared with the old ones."""
        done = adapt(model, corpus=[notes], out=tmp_path / "out", trim=True, score_bytes=2000)
        assert [stage.name for stage in done.stages] == ["untouched", "grafted"]
        assert done.stages[1].greedy_hits is None
        assert done.stages[1].domain.bits_per_byte > 0

    def test_an_empty_output_directory_may_be_filled(self, model, notes, tmp_path):
        (tmp_path / "out").mkdir()
        adapt(model, corpus=[notes], out=tmp_path / "out", extend=4, score=False)
        assert (tmp_path / "out" / "model.safetensors").is_file()

    def test_a_dry_run_writes_nothing(self, model, notes, tmp_path):
        before = snapshot(tmp_path)
        found = estimate(model, corpus=[notes], out=tmp_path / "out", method="mean", extend=4)
        assert found.figures["vocabulary_after"] == found.figures["vocabulary_before"] + 4
        assert snapshot(tmp_path) == before
