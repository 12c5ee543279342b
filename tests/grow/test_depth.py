"""Another number of layers: what each new layer is, that plain transformers opens it, and that nothing is computed otherwise."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, AutoModelForMaskedLM, Gemma2Config, Gemma2ForCausalLM
from typer.testing import CliRunner

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.cli import app
from regraft.errors import CheckpointError, InputError, ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.growers.short_gpt import block_influence
from regraft.grow.depth.plan import Plan
from regraft.grow.depth.stack import LayerStack
from regraft.grow.grower import Context
from regraft.method import resolve
from toys import models

HEADS = {"llama": AutoModelForCausalLM, "gpt2": AutoModelForCausalLM, "bert": AutoModelForMaskedLM, "vit": AutoModelForImageClassification}
IDS = torch.tensor([[5, 9, 3, 40, 7]])


def grown(folder, out, depth, method="copy", context=None, **settings):
    return resolve("depth-grower", method, settings).grow(Checkpoint.open(folder), depth, out, context or Context())


def layers_of(model):
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1)


def logits(model):
    inputs = {"pixel_values": torch.linspace(-1, 1, 192).view(1, 3, 8, 8)} if "vit" in model.config.model_type else {"input_ids": IDS}
    with torch.inference_mode():
        return model(**inputs).logits


@pytest.mark.parametrize("name", HEADS)
def test_layers_are_those_of_the_plan_and_all_else_stays(name, folders, tmp_path, opened):
    before = opened(folders / name, HEADS[name])
    depth = len(layers_of(before))
    grown(folders / name, tmp_path / "out", depth + 1, ranges=f"0-{depth},1-2")
    after = opened(tmp_path / "out", HEADS[name])
    assert len(layers_of(after)) == depth + 1
    for place, source in enumerate([*range(depth), 1]):
        for old, new in zip(layers_of(before)[source].parameters(), layers_of(after)[place].parameters(), strict=True):
            assert torch.equal(old, new)
    outside = {n: p for n, p in before.state_dict().items() if not n.startswith(prefix(before))}
    assert outside
    assert all(torch.equal(p, after.state_dict()[n]) for n, p in outside.items())


def prefix(model):
    return next(n for n, m in model.named_modules() if m is layers_of(model))


@pytest.mark.parametrize("name", ["llama", "gpt2", "vit"])
def test_zero_blocks_change_nothing(name, folders, tmp_path, opened):
    before = opened(folders / name, HEADS[name])
    made = grown(folders / name, tmp_path / "out", len(layers_of(before)) + 2, "zero-block")
    after = opened(tmp_path / "out", HEADS[name])
    assert torch.allclose(logits(before), logits(after), atol=1e-6)
    new = [n for n, _ in after.named_parameters() if n in made.new]
    assert len(new) == 2 * len(list(layers_of(after)[0].named_parameters()))


def test_zero_blocks_in_a_post_norm_model_are_refused(folders, tmp_path):
    with pytest.raises(CheckpointError, match="post-norm"):
        grown(folders / "bert", tmp_path / "out", 6, "zero-block")
    assert not (tmp_path / "out").exists()


PLANS = {
    ("copy", 8, ()): [0, 1, 2, 3, 1, 2, 3, 4],
    ("copy", 3, ()): [0, 1, 4],
    ("copy", 11, ()): [0, 1, 2, 3, 4] * 2 + [0],
    ("stack", 7, ()): [0, 1, 2, 3, 4, 0, 1],
    ("stack", 7, (("order", "in-place"),)): [0, 0, 1, 2, 2, 3, 4],
    ("stack", 7, (("order", "last"),)): [0, 1, 2, 3, 4, 3, 4],
    ("drop", 3, ()): [0, 2, 4],
    ("drop", 1, ()): [0],
    ("subclone", 4, ()): [0, 1, 3, 4],
    ("zero-block", 7, ()): [0, 1, 2, 2, 3, 4, 4],
}


@pytest.mark.parametrize(("method", "depth", "settings"), PLANS)
def test_plans(method, depth, settings, folders):
    gene = Gene(LayerStack.open(Checkpoint.open(folders / "llama")))
    assert resolve("depth-grower", method, dict(settings)).plan(gene, depth).sources == PLANS[method, depth, settings]


def test_a_mix_is_the_weighted_sum(folders, tmp_path, opened):
    from regraft.grow.depth.grower import write

    source = Checkpoint.open(folders / "llama")
    gene, method = Gene(LayerStack.open(source)), resolve("depth-grower", "copy")
    weights = np.zeros((2, 5))
    weights[0, 0], weights[1, [1, 4]] = 1.0, [0.25, -2.0]
    write(gene, Plan.mix(weights), tmp_path / "out", method, source)
    before, after = (opened(folder, AutoModelForCausalLM) for folder in (folders / "llama", tmp_path / "out"))
    for first, second, mixed in zip(*(layers_of(before)[n].parameters() for n in (1, 4)), layers_of(after)[1].parameters(), strict=True):
        assert torch.allclose(mixed, 0.25 * first - 2 * second, atol=1e-6)
    assert torch.equal(layers_of(after)[0].mlp.up_proj.weight, layers_of(before)[0].mlp.up_proj.weight)


def test_repeated_layers_can_be_quieter(folders, tmp_path, opened):
    grown(folders / "llama", tmp_path / "out", 6, "copy", ranges="0-5,4-5", loudness=0.5)
    layers = layers_of(opened(tmp_path / "out", AutoModelForCausalLM))
    assert torch.allclose(layers[5].mlp.down_proj.weight, 0.5 * layers[4].mlp.down_proj.weight)
    assert torch.equal(layers[5].mlp.up_proj.weight, layers[4].mlp.up_proj.weight)


def test_what_the_config_lists_layer_by_layer_follows(tmp_path, opened):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path / "gemma")
    grown(tmp_path / "gemma", tmp_path / "out", 6, "stack")
    kinds = opened(tmp_path / "out", AutoModelForCausalLM).config.layer_types
    assert [kind[0] for kind in kinds] == ["f", "s", "s", "f", "f", "s"]


def test_the_least_influential_layers_go(folders, text):
    from regraft.corpus import Corpus

    context = Context(corpus=Corpus.open([text]))
    stack = LayerStack.open(Checkpoint.open(folders / "llama"))
    method = resolve("depth-grower", "short-gpt", {"tokens": 400})
    gene = method.fit(stack, context)
    influence = gene.facts["block_influence"]
    least = int(np.argmin(influence))
    assert method.plan(gene, 4).sources == [layer for layer in range(5) if layer != least]
    model = models.llama()
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.zero_()
        model.model.layers[2].mlp.down_proj.weight.zero_()
    assert block_influence(model, [[5, 9, 3], [7]], 5)[2] == pytest.approx(0, abs=1e-6)


def test_a_gene_comes_back_and_knows_its_model(folders, tmp_path, text):
    from regraft.corpus import Corpus

    method, source = resolve("depth-grower", "short-gpt", {"tokens": 100}), Checkpoint.open(folders / "llama")
    context = Context(corpus=Corpus.open([text]), gene=tmp_path / "gene")
    method.grow(source, 3, tmp_path / "three", context)
    method.grow(source, 2, tmp_path / "two", Context(gene=tmp_path / "gene"))  # no corpus: nothing is measured again
    assert (
        provenance.read(tmp_path / "two")["metrics"]["block_influence"]
        == Gene.load(tmp_path / "gene", method, source).facts["block_influence"]
    )
    with pytest.raises(InputError, match="another model"):
        Gene.load(tmp_path / "gene", method, Checkpoint.open(folders / "gpt2"))
    with pytest.raises(InputError, match="not of copy"):
        Gene.load(tmp_path / "gene", resolve("depth-grower", "copy"), source)
    with pytest.raises(InputError, match=r"has no gene\.json"):
        Gene.load(tmp_path / "two", method, source)


REFUSED = {
    "drop": (6, {}, "it only leaves out"),
    "subclone": (6, {}, "it only leaves out"),
    "stack": (4, {}, "it repeats layers"),
    "zero-block": (4, {}, "it only adds"),
    "copy": (7, {"ranges": "0-5"}, "give ranges that add up"),
    "short-gpt": (3, {}, "--corpus"),
}


@pytest.mark.parametrize("method", REFUSED)
def test_what_cannot_be_is_said_in_one_line(method, folders, tmp_path):
    depth, settings, said = REFUSED[method]
    with pytest.raises(ParameterError, match=said):
        grown(folders / "llama", tmp_path / "out", depth, method, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ranges", ["0-9", "3-3", "a-b", "1"])
def test_bad_ranges(ranges, folders, tmp_path):
    with pytest.raises(ParameterError, match="copy: ranges"):
        grown(folders / "llama", tmp_path / "out", 4, ranges=ranges)


def test_shards_that_stay_are_linked_and_the_model_is_never_loaded(folders, tmp_path, opened, monkeypatch):
    models.llama(layers=5).save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    monkeypatch.setattr("regraft.checkpoint.files.read_tensor", lambda info: pytest.fail("a tensor was read"))
    grown(tmp_path / "sharded", tmp_path / "out", 6, "stack")
    monkeypatch.undo()
    about = provenance.read(tmp_path / "out")
    shards = list((tmp_path / "out").glob("*.safetensors"))
    assert len([name for name in about["files"] if name.endswith(".safetensors")]) < len(shards)
    assert len(layers_of(opened(tmp_path / "out", AutoModelForCausalLM))) == 6


def test_encoder_decoders_are_refused(tmp_path):
    import transformers

    from toys.checkpoints import MODELS

    MODELS["t5"](transformers).save_pretrained(tmp_path / "t5")
    with pytest.raises(CheckpointError, match="two stacks"):
        grown(tmp_path / "t5", tmp_path / "out", 3)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A model one of whose weights is NaN."""
    model = models.llama()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = torch.nan
    folder = tmp_path_factory.mktemp("broken") / "model"
    model.save_pretrained(folder)
    models.tokenizer().save_pretrained(folder)
    return folder


def run(*given):
    return CliRunner().invoke(app, ["grow", *map(str, given)])


def test_from_the_command_line_with_training_of_what_is_new(folders, text, tmp_path, opened):
    small = ["--train-set", "block=16", "--train-set", "batch_size=2", "--train-set", "lr=0.01", "--score-bytes", "1000"]
    done = run("depth", folders / "llama", "--layers", 7, "--method", "zero-block", "--corpus", text, "--steps", 3, "--new-only",
               "--out", tmp_path / "out", "--json", *small)  # fmt: skip
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["untouched"]["bits_per_byte"] == pytest.approx(figures["grown"]["bits_per_byte"], abs=1e-5)
    assert figures["trained"]["bits_per_byte"] != figures["grown"]["bits_per_byte"]
    before, after = (opened(folder, AutoModelForCausalLM) for folder in (folders / "llama", tmp_path / "out"))
    assert figures["new_layers"] == [3, 6]
    old, new = layers_of(before), layers_of(after)
    sources = zip(range(7), [0, 1, 2, 2, 3, 4, 4], strict=True)
    changed = [place for place, source in sources if not torch.equal(new[place].mlp.down_proj.weight, old[source].mlp.down_proj.weight)]
    assert changed == [3, 6]
    assert torch.equal(after.get_input_embeddings().weight, before.get_input_embeddings().weight)
    about = provenance.read(tmp_path / "out")
    assert about["files"]["model.safetensors"] == provenance.sha256(tmp_path / "out" / "model.safetensors")
    assert about["method"]["parameters"]["new_only"] is True
    assert "<svg" in (tmp_path / "out" / "report.html").read_text("utf-8") or "plotly" in (tmp_path / "out" / "report.html").read_text(
        "utf-8"
    )


def test_compare_ranks_and_goes_on_where_it_stopped(folders, text, tmp_path, monkeypatch):
    given = ["compare", folders / "llama", "--layers", 6, "--methods", "copy,zero-block,drop", "--corpus", text, "--score-bytes", "1000",
             "--out", tmp_path / "out", "--json"]  # fmt: skip
    first = run(*given)
    assert first.exit_code == 0, first.output
    rows = {row["method"]: row for row in json.loads(first.stdout)["rows"]}
    assert next(iter(rows)) == "untouched"
    assert rows["zero-block"]["bits_per_byte"] == pytest.approx(rows["untouched"]["bits_per_byte"], abs=1e-5)
    assert "it only leaves out" in rows["drop"]["error"]
    monkeypatch.setattr("regraft.grow.depth.grower.write", lambda *_: pytest.fail("made again"))
    assert json.loads(run(*given).stdout) == json.loads(first.stdout)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["depth", "MODEL", "--layers", "0", "--out", "OUT"], "give 1 to 10,000"),
        (["depth", "MODEL", "--layers", "100000000", "--out", "OUT"], "give 1 to 10,000"),
        (["width", "MODEL", "--hidden", "80000000", "--out", "OUT"], "the model would be 1,280,000"),
        (["width", "MODEL", "--hidden", "-4", "--out", "OUT"], "choose 8"),
        (["depth", "MODEL", "--layers", "6", "--method", "zeroblok", "--out", "OUT"], "did you mean zero-block"),
        (["depth", "MODEL", "--layers", "6", "--steps", "2", "--out", "OUT"], "give some with --corpus"),
        (["depth", "MODEL", "--layers", "6", "--gene", "MODEL", "--out", "OUT"], "has no gene.json"),
        (["depth", "MODEL", "--layers", "6", "--new-only", "--out", "OUT"], "--new-only says what is trained"),
        (["linearity", "NAN"], "holds NaN"),
        (["width", "NAN", "--hidden", "32", "--out", "OUT"], "look for NaN"),
        (["experts", "NAN", "--experts", "4", "--top-k", "2", "--layers", "1", "--out", "OUT"], "up_proj.weight holds NaN"),
        (["experts", "NAN", "--experts", "4", "--top-k", "2", "--layers", "1", "--method", "upcycle", "--out", "OUT"], "holds NaN"),
        (["compare", "MODEL", "--layers", "6"], "give --corpus"),
        (["compare", "MODEL"], "give --layers"),
        (["compare", "MODEL", "--layers", "6", "--top-k", "2"], "give --experts"),
    ],
)
def test_bad_input_leaves_nothing(given, said, folders, broken, tmp_path):
    done = run(*[{"MODEL": folders / "llama", "OUT": tmp_path / "out", "NAN": broken}.get(one, one) for one in given])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_room_is_refused_before_it_is_built(folders, text, tmp_path, monkeypatch):
    from regraft.grow.depth.stack import size_at

    size, parameters = size_at(Checkpoint.open(folders / "llama"), 50)
    grown(folders / "llama", tmp_path / "fifty", 50)
    written = Checkpoint.open(tmp_path / "fifty").tensors.values()
    assert size == sum(info.nbytes for info in written) == 4 * parameters
    monkeypatch.setattr("regraft.grow.depth.grower.LayerStack.open", lambda _: pytest.fail("built"))
    given = ["depth", folders / "llama", "--layers", 50, "--corpus", text, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr("regraft.grow.grower.free_space", lambda _: size - 1)
        done = run(*given)
    assert (done.exit_code, "GB left" in " ".join(done.output.split())) == (2, True)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": size - 1}))
    done = run(*given)
    assert (done.exit_code, "leave --corpus out" in " ".join(done.output.split())) == (2, True)
    assert not (tmp_path / "out").exists()


def test_what_a_plan_is_said_to_be(folders, tmp_path):
    context = Context()
    made = grown(folders / "llama", tmp_path / "seven", 7, "zero-block", context)
    assert context.notes == ["layers 3, 6 are silent: they pass their input on until training wakes them"]
    assert [layer for layer, loud in enumerate(made.facts["loudness"]) if not loud] == [3, 6]
    grown(folders / "llama", tmp_path / "five", 5, "copy", context)
    assert context.notes[1:] == ["the model has 5 layers already: the result is the model as it was"]


def test_a_comparison_in_which_all_fail_says_so_line_by_line(folders, text, tmp_path):
    given = ["compare", folders / "llama", "--layers", 3, "--methods", "zero-block,stack", "--corpus", text, "--score-bytes", "500"]
    done = run(*given, "--json")
    assert done.exit_code == 1
    assert [row["method"] for row in json.loads(done.stdout)["rows"]] == ["untouched", "zero-block", "stack"]
    told = [line for line in done.stderr.splitlines() if line.startswith("regraft: ")]
    assert [line.split(":")[1].strip() for line in told] == ["zero-block", "stack", "no method could be compared"]


def test_ways_to_experts_are_compared(folders, text, tmp_path):
    given = ["compare", folders / "llama", "--experts", 4, "--top-k", 2, "--set", "upcycle.form=copies", "--corpus", text]
    small = ["--score-bytes", "500", "--train", 2, "--train-set", "block=16", "--train-set", "batch_size=2"]
    done = run(*given, *small, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows.keys() == {"untouched", "emoe", "upcycle"}
    assert rows["upcycle"]["bits_per_byte"] == pytest.approx(
        rows["untouched"]["bits_per_byte"], abs=1e-5
    )  # copies begin as the dense model
    assert rows["emoe"]["bits_per_byte"] != pytest.approx(rows["untouched"]["bits_per_byte"], abs=1e-5)  # as it routes
    assert rows["emoe"]["parameters"] == rows["untouched"]["parameters"] < rows["upcycle"]["parameters"]
    assert all(rows[name]["bits_per_byte_after"] is not None for name in ("emoe", "upcycle"))
    assert "4 experts, of which a token takes 2" in (tmp_path / "out" / "comparison.html").read_text("utf-8")


def test_ways_that_are_level_are_called_so():
    from regraft.grow.compare import _first

    def row(method, value, low=None):
        return {"method": method, "bits_per_byte": value, "bits_per_byte_after": None, "behind_first_low": low}

    assert _first([row("a", 1.0)]) == "best is a with 1.000 as grown"
    assert _first([row("a", 1.0), row("b", 1.1, 0.05)]) == "best is a with 1.000 as grown"
    assert _first([row("a", 1.0), row("b", 1.1, -0.01), row("c", 1.1, 0.0)]) == "a, b and c are level with 1.000 as grown"


def test_the_picture_shows_what_is_close():
    from regraft.grow.report.comparison import before_and_after

    rows = [{"method": name, "bits_per_byte": 2.9 + n / 1000, "bits_per_byte_after": None} for n, name in enumerate("abc")]
    figure = before_and_after(rows)
    assert [(list(trace.y), trace.mode) for trace in figure.data] == [(["a", "b", "c"], "markers")]  # bars would start at 0


def test_pictures_of_a_growth_name_whole_layers_silent_ones_and_sizes():
    from regraft.grow.report.growth import growth_report, plan_figure

    figure = plan_figure([{"0": 1.0}, {"0": 1.0}, {"1": 1.0}], 2, loud=[1.0, 0.0, 1.0])
    assert list(figure.layout.yaxis.ticktext) == ["0", "1 (silent)", "2"]
    assert list(figure.layout.xaxis.tickvals) == [0, 1]
    wider = {f"{name}{when}": size for name in ("hidden", "heads", "groups", "ffn") for when, size in (("_before", 2), ("", 4))}
    figures = {**wider, "parameters": 4, "parameters_before": 1, "exact": True, "difference": 1e-6, "relative_difference": 8e-7}
    report = growth_report("toy", resolve("width-grower", "net2net"), None, {}, None, figures)
    assert "It computes the same function: outputs differ by at most 1e-06 (8e-07 of their size)" in report.lead
    assert [part.title for part in report.sections if part.kind == "figure"] == ["Sizes before and after"]


def test_links_to_the_input_are_named(tmp_path):
    from regraft.grow.job import linked_note

    models.llama(layers=5).save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    grown(tmp_path / "sharded", tmp_path / "out", 6, "stack", Context())
    linked = [path for path in (tmp_path / "out").glob("*.safetensors") if path.stat().st_nlink > 1]
    told = linked_note(tmp_path / "out", Checkpoint.open(tmp_path / "sharded"))
    assert [f"{len(linked)} files" in line for line in told] == [True] * bool(linked)
    assert all("hard links" in line for line in told)
