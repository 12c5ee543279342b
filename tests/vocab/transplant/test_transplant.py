"""Tables of a model with a new vocabulary: every architecture, both ways to change a tokenizer, every start."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regraft.checkpoint import Checkpoint, write
from regraft.corpus import Corpus
from regraft.errors import CheckpointError
from regraft.graft import ORIGINS, Graft, Rows
from regraft.graft.moments import mean_and_std
from regraft.language.loading import load_model
from regraft.method import list_methods, resolve
from regraft.vocab.change import Change, replace
from regraft.vocab.change.change import kept_ids
from regraft.vocab.initializer import Context, Source, Target
from regraft.vocab.transplant.installed import changed_tensors, install
from regraft.vocab.transplant.transplant import full_graft, transplant
from toys.checkpoints import V, load, outputs, refusal, save_models, stored_again
from toys.tokenizers import LETTERS, character_bpe

SYLLABLES = [f"{consonant} {vowel}" for vowel in "aeiou" for consonant in "bcdfghjklmnpqrstvwxyz"]
NEW_MERGES = ["ba be", "bi da", "de ba", "a a", "aa a", "▁ ba", "▁ba ca", "e e", "z z", "bade ba"]
METHODS = [cls.name for cls in list_methods("initializer") if not cls.needs]  # the others have tests of their own
# architecture -> (has a head of its own, has a bias)
SHAPES = {
    "llama-tied": (False, False),
    "llama": (True, False),
    "gpt2": (False, False),
    "bert-mlm": (False, True),
    "bert": (False, False),
    "t5": (False, False),
    "t5-untied": (True, False),
    "marian": (False, True),
    "bart": (False, True),
}
TOKENS = {"full": V, "padded": V - 16}


def old_tokenizer(size):
    """A tokenizer of exactly `size` tokens."""
    return character_bpe(SYLLABLES[: size - 30])


@pytest.fixture(scope="module")
def vocabularies():
    """(old tokenizer, change) by size and kind of change."""
    found = {}
    for name, size in TOKENS.items():
        old = old_tokenizer(size)
        assert old.vocab_size == size
        merges = [*SYLLABLES[: size - 30], "ba de", *NEW_MERGES]
        new = character_bpe(merges)
        found[name, "extend"] = (old, Change(new, kept_ids(old, new)))
        other = character_bpe(
            [*SYLLABLES[40:44], "n g", "t h", "th e", "z a", "za za", "▁ za", *SYLLABLES[:20], "ba da"], letters=LETTERS[::-1]
        )
        found[name, "replace"] = (old, replace(old, other))
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    # as T5 1.1 is stored: transformers calls every T5 tied, and then goes by the values in the file
    stored_again(root / "t5", root / "t5-untied", {"lm_head.weight": "shared.weight"}, tie_word_embeddings=False)
    tensors = load_file(root / "t5-untied" / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn(tensors["shared.weight"].shape, generator=torch.Generator().manual_seed(4))
    save_file(tensors, root / "t5-untied" / "model.safetensors", metadata={"format": "pt"})
    return {name: Checkpoint.open(root / name) for name in SHAPES}


@pytest.fixture(scope="module")
def corpus():
    return Corpus.from_texts(["babe bida deba aaa bade badeba", "zaza bada za eee ee zz"], held_out=0)


def started(checkpoint, old, change, initializer, context, role):
    """What the start gives when asked directly for one table."""
    layout = checkpoint.layout
    table = checkpoint.read(layout.head[0] if role == "head" else layout.input[0])[: old.vocab_size]
    bias = checkpoint.read(layout.bias[0]).reshape(-1)[: old.vocab_size] if layout.bias else None
    source = Source(table=table, tokenizer=old, role=role, tied=layout.tied, initializer_range=layout.initializer_range, bias=bias)
    aim = Target(ids=change.new_ids, tokenizer=change.tokenizer, source_ids=change.source_ids, old_tokenizer=old)
    return initializer(source, aim, context), table, bias


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["extend", "replace"])
@pytest.mark.parametrize("size", TOKENS)
@pytest.mark.parametrize("name", SHAPES)
def test_every_row_of_every_table(models, vocabularies, corpus, name, size, kind, method):
    checkpoint, (old, change) = models[name], vocabularies[size, kind]
    layout, initializer = checkpoint.layout, resolve("initializer", method)
    context = Context(corpus=corpus, seed=3)
    result = transplant(checkpoint, old, change, initializer, context)
    has_head, has_bias = SHAPES[name]
    vocab = len(change.source_ids)
    rows = max(vocab, V) if kind == "extend" else vocab
    assert result.input.shape == (rows, layout.dim)
    assert (result.head is not None) == has_head
    assert (result.bias is not None) == has_bias
    assert layout.tied == (not has_head and name != "bert")

    copied = np.flatnonzero(change.source_ids >= 0)
    sources = torch.from_numpy(change.source_ids[copied])
    new = torch.from_numpy(change.new_ids)
    assert len(new) > 3
    assert len(copied) + len(new) == vocab
    if kind == "extend":
        assert torch.equal(sources, torch.arange(old.vocab_size))
    for role, table in (("input", result.input), ("head", result.head)):
        if table is None:
            continue
        stored = checkpoint.read((layout.head if role == "head" else layout.input)[0])
        assert torch.equal(table[torch.from_numpy(copied)], stored[sources])
        # without a call of its own, the head follows the graft of the input table
        asked = role if role == "input" or initializer.separate_head else "input"
        start, _, bias = started(checkpoint, old, change, initializer, context, asked)
        expected = start.apply(stored[: old.vocab_size]) if isinstance(start, Graft) else start.values
        assert torch.equal(table[new], expected)
        mean = mean_and_std(stored[: old.vocab_size])[0].to(table.dtype)
        assert torch.equal(table[vocab:], mean.expand(rows - vocab, -1))
        logits = torch.randn(500, layout.dim, generator=torch.Generator().manual_seed(1)) @ table.T
        if role == "head" or layout.tied:
            if result.bias is not None:
                logits += result.bias
            assert rows == vocab or int(logits.argmax(1).max()) < vocab, "a padding row was the greedy choice"
    if has_bias:
        start, _, bias = started(checkpoint, old, change, initializer, context, "input")
        assert torch.equal(result.bias[torch.from_numpy(copied)], bias[sources])
        if isinstance(start, Graft):
            expected = start.averaging().apply(bias)
        else:
            expected = bias.to(torch.float64).mean().float().expand(len(new)) if start.bias is None else start.bias
        assert torch.equal(result.bias[new], expected)
        torch.testing.assert_close(result.bias[vocab:], bias.mean().expand(rows - vocab))
    # every stored name, in its own shape
    assert set(result.tensors) == set(layout.names)
    for tensor_name, tensor in result.tensors.items():
        shape = checkpoint.tensors[tensor_name].shape
        assert tensor.shape == ((rows, layout.dim) if len(shape) == 2 and shape[0] == V else (*shape[:-1], rows))
    counts = result.origin_counts()
    assert sum(counts.values()) == vocab
    assert (counts["sampled"] == len(new)) == (result.graft is None)
    assert (result.certificate is None) == (result.graft is None)
    if result.certificate is not None:
        assert result.certificate.inside == 1.0
        whole = full_graft(result, change.source_ids, old.vocab_size)
        assert whole.shape == (vocab, old.vocab_size)
        old_table = checkpoint.read(layout.input[0])
        torch.testing.assert_close(whole.apply(old_table), result.input[:vocab], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["extend", "replace"])
@pytest.mark.parametrize("name", SHAPES)
def test_on_disk_and_in_memory_it_is_the_same_model(models, vocabularies, tmp_path, name, kind):
    checkpoint, (old, change) = models[name], vocabularies["padded", kind]
    result = transplant(checkpoint, old, change, resolve("initializer", "constituent-exponential"), Context())
    write(checkpoint, tmp_path / "out", tensors=result.tensors)
    again = Checkpoint.open(tmp_path / "out")
    assert (again.layout.tied, again.layout.rows) == (checkpoint.layout.tied, result.rows)
    assert again.config["vocab_size"] == result.rows
    from_disk = load(tmp_path / "out")
    assert torch.equal(from_disk.get_input_embeddings().weight, result.input)
    head = from_disk.get_output_embeddings()
    if head is not None:
        assert (head.weight is from_disk.get_input_embeddings().weight) == checkpoint.layout.tied
        assert torch.equal(head.weight, result.input if result.head is None else result.head)
    in_memory = load_model(checkpoint)
    install(in_memory, result)
    ids = torch.randint(0, min(V, result.rows), (2, 9), generator=torch.Generator().manual_seed(0))
    assert torch.equal(outputs(in_memory, ids), outputs(from_disk, ids))
    if result.bias is not None:
        biases = [tensor for key, tensor in from_disk.state_dict().items() if "bias" in key and tensor.shape[-1:] == (result.rows,)]
        assert biases
        assert all(torch.equal(tensor.reshape(-1), result.bias) for tensor in biases)
    for tensor_name, tensor in changed_tensors(in_memory, checkpoint).items():
        assert torch.equal(tensor, result.tensors[tensor_name])


class WithLayers:
    """A start that has also trained every layer: all of them are ones."""

    separate_head = True

    def __init__(self, checkpoint):
        self.names = {name: parameter.shape for name, parameter in load_model(checkpoint).named_parameters() if parameter.shape[:1] != (V,)}

    def factorise(self, table):
        return None

    def share(self, table, read_head):
        return None

    def __call__(self, source, target, context):
        layers = {name: torch.ones(shape) for name, shape in self.names.items()}
        return Rows(torch.zeros(len(target), source.table.shape[1]), origin="learned", layers=layers)


@pytest.mark.parametrize("name", ["llama-tied", "llama", "gpt2", "bert-mlm", "t5", "bart"])
def test_layers_that_a_start_has_trained_come_with_its_rows(models, vocabularies, tmp_path, name):
    checkpoint, (old, change) = models[name], vocabularies["full", "extend"]
    start = WithLayers(checkpoint)
    result = transplant(checkpoint, old, change, start, Context())
    assert result.origin_counts()["learned"] == len(change.new_ids)
    write(checkpoint, tmp_path / "out", tensors=result.tensors)
    in_memory, from_disk = load_model(checkpoint), load(tmp_path / "out")
    install(in_memory, result)
    for model in (in_memory, from_disk):
        layers = dict(model.named_parameters())
        assert start.names
        assert all(torch.equal(layers[n], torch.ones(shape)) for n, shape in start.names.items())


def test_a_layer_that_the_files_do_not_hold_is_refused(models, vocabularies):
    checkpoint, (old, change) = models["llama"], vocabularies["full", "extend"]
    start = WithLayers(checkpoint)
    start.names = {"model.layers.99.mlp.weight": torch.Size([2])}
    with pytest.raises(CheckpointError, match=r"layers\.99"):
        transplant(checkpoint, old, change, start, Context())


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("llama-tied", {"lm_head.weight": "model.embed_tokens.weight"}),
        ("bert-mlm", {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}),
        ("t5", {"encoder.embed_tokens.weight": "shared.weight", "lm_head.weight": "shared.weight"}),
        ("bart", {"model.encoder.embed_tokens.weight": "model.shared.weight"}),
    ],
)
def test_every_stored_copy_is_rewritten(models, vocabularies, tmp_path, name, copies):
    checkpoint = Checkpoint.open(stored_again(models[name].path, tmp_path / "again", copies))
    old, change = vocabularies["full", "extend"]
    result = transplant(checkpoint, old, change, resolve("initializer", "constituent-mean"), Context())
    write(checkpoint, tmp_path / "out", tensors=result.tensors)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    for copy, original in copies.items():
        assert torch.equal(stored[copy], result.input)
        assert torch.equal(stored[original], result.input)
    assert Checkpoint.open(tmp_path / "out").layout.tied


class TestRows:
    def test_new_tokens_go_into_padding_before_the_table_grows(self, models, vocabularies):
        old, change = vocabularies["padded", "extend"]
        result = transplant(models["llama"], old, change, resolve("initializer", "mean"), Context())
        assert old.vocab_size < len(change.source_ids) < V
        assert result.rows == V

    @pytest.mark.parametrize(("multiple", "rows"), [(1, 107), (8, 112), (64, 128), (107, 107), (1000, 1000)])
    def test_rows_are_rounded_up(self, models, vocabularies, multiple, rows):
        old, change = vocabularies["full", "extend"]
        assert len(change.source_ids) == 107
        result = transplant(models["marian"], old, change, resolve("initializer", "mean"), Context(), multiple)
        assert result.rows == rows
        assert result.tensors["final_logits_bias"].shape == (1, rows)

    def test_a_token_of_one_repeated_piece_ties_with_it_exactly(self, models, vocabularies):
        old, change = vocabularies["full", "extend"]
        result = transplant(models["bert-mlm"], old, change, resolve("initializer", "constituent-mean"), Context())
        vocab = change.tokenizer.vocab
        for new in ("aa", "aaa"):
            assert torch.equal(result.input[vocab[new]], result.input[vocab["a"]])
            assert result.bias[vocab[new]] == result.bias[vocab["a"]]
            assert ORIGINS[result.origins[vocab[new]]] == "combined"

    def test_holes_in_the_ids_take_the_mean(self, models):
        old = old_tokenizer(V)
        spec = old.editable()
        spec["model"]["vocab"] = {**spec["model"]["vocab"], "baba": V + 4}
        spec["model"]["merges"] = [*spec["model"]["merges"], ["ba", "ba"]]
        new = old.with_spec(spec)
        change = Change(new, kept_ids(old, new))
        result = transplant(models["llama"], old, change, resolve("initializer", "constituent-mean"), Context())
        assert change.new_ids.tolist() == [V + 4]
        table = models["llama"].read("model.embed_tokens.weight")
        torch.testing.assert_close(result.input[V : V + 4], table.mean(0).expand(4, -1))
        assert torch.equal(result.input[V + 4], table[old.vocab["ba"]])

    def test_half_precision_stays(self, models, vocabularies, tmp_path):
        path = shutil.copytree(models["llama"].path, tmp_path / "half")
        tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path / "model.safetensors").items()}
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        checkpoint = Checkpoint.open(path)
        old, change = vocabularies["full", "extend"]
        for method in METHODS:
            context = Context(corpus=Corpus.from_texts(["babe bida"], held_out=0))
            result = transplant(checkpoint, old, change, resolve("initializer", method), context)
            assert {tensor.dtype for tensor in result.tensors.values()} == {torch.bfloat16}
            assert torch.equal(result.input[:V], tensors["model.embed_tokens.weight"])
            assert torch.isfinite(result.input).all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "tensor", "value"),
        [
            ("llama", "model.embed_tokens.weight", float("nan")),
            ("llama", "lm_head.weight", float("inf")),
            ("bart", "model.shared.weight", float("nan")),
            ("bart", "final_logits_bias", float("-inf")),
            ("bert-mlm", "cls.predictions.bias", float("nan")),
        ],
    )
    def test_rows_that_are_not_numbers(self, models, vocabularies, tmp_path, name, tensor, value):
        path = shutil.copytree(models[name].path, tmp_path / "broken")
        tensors = load_file(path / "model.safetensors")
        (tensors[tensor][0] if tensor == "final_logits_bias" else tensors[tensor])[7] = value
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        old, change = vocabularies["full", "extend"]
        message = refusal(transplant, Checkpoint.open(path), old, change, resolve("initializer", "mean"), Context())
        assert str(path) in message
        assert f"row 7 of {tensor}" in message

    def test_rows_of_padding_may_hold_anything(self, models, vocabularies, tmp_path):
        path = shutil.copytree(models["llama"].path, tmp_path / "padded")
        tensors = load_file(path / "model.safetensors")
        tensors["model.embed_tokens.weight"][V - 1] = float("nan")
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        old, change = vocabularies["padded", "extend"]
        for method in METHODS:
            context = Context(corpus=Corpus.from_texts(["babe"], held_out=0))
            assert torch.isfinite(transplant(Checkpoint.open(path), old, change, resolve("initializer", method), context).input).all()

    def test_a_tokenizer_larger_than_the_table(self, models, vocabularies):
        old = old_tokenizer(V + 1)
        message = refusal(transplant, models["llama"], old, Change(old, kept_ids(old, old)), resolve("initializer", "mean"), Context())
        assert f"{V + 1} ids" in message
        assert f"{V} rows" in message

    def test_refusals_are_bad_input(self):
        assert CheckpointError.exit_code == 2
