"""TLEG and SWS: what their cards promise exactly, on every kind of model, and what they refuse."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div, log_softmax
from transformers import AutoModelForCausalLM, BertModel

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.errors import CheckpointError, CorpusError, InputError, OutputError, ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.growers.sws import Sws, default_sources
from regraft.grow.depth.growers.tleg import Tleg, line_weights, shares
from regraft.grow.depth.learned.auxiliary import auxiliary, drop_paths
from regraft.grow.depth.learned.grower import learn, started
from regraft.grow.depth.learned.losses import hidden_distillation, soft_distillation, with_labels
from regraft.grow.depth.learned.pooling import average_first
from regraft.grow.depth.plan import Plan, pieces
from regraft.grow.depth.stack import LayerStack
from regraft.grow.grower import Context
from regraft.language.loading import load_model
from toys import models as toys
from toys import vision

SHORT = {"length": 16, "batch_size": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n\n".join(toys.texts(60)), encoding="utf-8")
    return Corpus.open([str(path)])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each kind, by name."""
    root = tmp_path_factory.mktemp("models")
    made = {"llama": (toys.llama(), toys.tokenizer()), "untied": (toys.llama(tied=False), toys.tokenizer())}
    made |= {"gpt2": (toys.gpt2(), toys.tokenizer()), "bert": (toys.bert(), toys.wordpiece())}
    made |= {"vit": (vision.vit(), None), "ijepa": (vision.ijepa(), None)}
    torch.manual_seed(0)
    made["encoder"] = BertModel(toys.bert().config), toys.wordpiece()
    for name, (model, tokenizer) in made.items():
        model.save_pretrained(root / name)
        if tokenizer is not None:
            tokenizer.save_pretrained(root / name)
    pixels = vision.pictures()
    np.savez(root / "pictures.npz", pixel_values=pixels.numpy(), labels=np.arange(12) % 5)
    return root


def opened(folders, name):
    return LayerStack.open(Checkpoint.open(folders / name))


def inputs(name):
    return {"pixel_values": vision.pictures(3)} if name in ("vit", "ijepa") else {"input_ids": torch.tensor([[5, 6, 7, 8, 9, 5, 6, 7]])}


def answer(model, name):
    with torch.no_grad():
        found = model(**inputs(name))
    return found.logits if "logits" in found else found.last_hidden_state


def values(folder):
    checkpoint = Checkpoint.open(folder)
    return {name: checkpoint.read(name).double() for name in checkpoint.tensors}


KINDS = ["llama", "untied", "gpt2", "bert", "encoder", "vit", "ijepa"]
METHODS = [Tleg(aux_depth=5, init="fit", **SHORT), Sws(stages="2,2,1", init="pick", **SHORT)]


# --- the auxiliary network -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("method", METHODS, ids=["tleg", "sws"])
def test_the_written_model_answers_as_the_auxiliary_network(folders, corpus, tmp_path, name, method):
    source = opened(folders, name)
    settings = {"images": str(folders / "pictures.npz")} if name in ("vit", "ijepa") else {}
    method = type(method)(**vars(method) | settings)
    gene = method.fit(source, Context(corpus=corpus, steps=3))
    assert gene.stack.depth == (2 if isinstance(method, Tleg) else 3)
    before = answer(load_model(source.checkpoint), name)
    aux = auxiliary(load_model(gene.stack.checkpoint), gene.stack, method.aux_plan(source))
    grown = method.expand(gene, 5)
    torch.testing.assert_close(answer(grown, name), answer(aux, name), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, answer(grown, name), atol=1e-3)  # it has learned; it is no copy
    storages = [one.untyped_storage().data_ptr() for one in grown.get_submodule(source.prefix).parameters()]
    assert len(set(storages)) == len(storages)
    assert all(one.requires_grad for one in grown.parameters())


@pytest.mark.parametrize("method", METHODS, ids=["tleg", "sws"])
def test_gradients_of_all_layers_add_up_in_the_gene(folders, method):
    source = opened(folders, "llama")
    gene, stack = started(method, source, Context())
    plan = method.aux_plan(source)
    aux = auxiliary(gene, stack, plan)
    aux(**inputs("llama")).logits.square().sum().backward()
    plain = method.expand(Gene(stack), 5) if isinstance(method, Sws) is False else None
    if plain is None:
        plain = _untied(stack, plan)
    plain(**inputs("llama")).logits.square().sum().backward()
    weights = plan.graft.weights.toarray()
    layers = [dict(layer.named_parameters()) for layer in plain.model.layers]
    for column, layer in enumerate(gene.model.layers):
        for name, parameter in layer.named_parameters():
            summed = sum(weights[i, column] * one[name].grad for i, one in enumerate(layers))
            torch.testing.assert_close(parameter.grad, summed, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(gene.model.norm.weight.grad, plain.model.norm.weight.grad, atol=1e-4, rtol=1e-3)


def _untied(stack, plan):
    """Layers of their own with the values of `plan`."""
    import tempfile
    from pathlib import Path

    from regraft.checkpoint.rebuild import rebuild

    with tempfile.TemporaryDirectory() as folder:
        rebuild(stack.checkpoint, Path(folder) / "m", pieces(stack, plan), stack.config(plan.sources))
        return load_model(Checkpoint.open(Path(folder) / "m"))


@pytest.mark.parametrize("depth", [5, 40])
def test_what_trains_does_not_grow_with_the_depth(folders, depth):
    source = opened(folders, "llama")
    gene, stack = started(Tleg(init="fit"), source, Context())
    aux = auxiliary(gene, stack, Tleg().plan(Gene(stack), depth))
    model = load_model(source.checkpoint)
    block = sum(one.numel() for one in model.model.layers[0].parameters())
    outside = sum(one.numel() for one in model.parameters()) - 5 * block
    assert sum(one.numel() for one in gene.parameters()) == 2 * block + outside
    assert {id(one) for one in aux.parameters()} <= {id(one) for one in gene.parameters()}
    answer(aux, "llama")
    assert not any(isinstance(value, torch.Tensor) for module in aux.model.layers.modules() for value in vars(module).values())


def test_stage_wise_sharing_holds_a_layer_a_stage(folders):
    method = Sws(stages="3,2", init="pick")
    source = opened(folders, "llama")
    gene, stack = started(method, source, Context())
    aux = auxiliary(gene, stack, method.aux_plan(source))
    used = []
    for layer in aux.model.layers:
        layer.register_forward_hook(lambda layer, *_: used.append(layer.mlp.up_proj.weight.data_ptr()))
    hooked = [layer._forward_hooks for layer in aux.model.layers]
    for hooks in hooked:  # ours is asked before the layer's tensors are dropped
        hooks.move_to_end(next(reversed(hooks)), last=False)
    answer(aux, "llama")
    assert len(used) == 5
    assert len(set(used)) == 2
    assert used[0] == used[2] != used[3]


def test_a_tied_model_writes_text_as_the_untied_one(folders):
    method = Sws(stages="3,2", init="pick")
    source = opened(folders, "llama")
    _, stack = started(method, source, Context())
    gene = Gene(stack, {"stages": [3, 2]})
    asked = {"input_ids": torch.tensor([[5, 6, 7]]), "max_new_tokens": 6, "do_sample": False}
    told = [model.generate(**asked).tolist() for model in (method.tied(gene, 4), method.expand(gene, 4))]
    assert told[0] == told[1]


def test_paths_are_dropped_by_application_and_only_in_training(folders):
    source = opened(folders, "vit")
    gene, stack = started(Sws(stages="4", init="pick"), source, Context())
    aux = auxiliary(gene, stack, Plan.copies([0, 0, 0, 0], 1))
    before = answer(aux, "vit")
    drop_paths(aux, stack, 0.9)
    torch.testing.assert_close(answer(aux, "vit"), before)
    aux.train()
    added = []
    for layer in aux.vit.layers if hasattr(aux.vit, "layers") else aux.vit.encoder.layer:
        layer.mlp.register_forward_hook(lambda *given: added.append(given[2].detach()))
    torch.manual_seed(0)
    aux(pixel_values=vision.pictures(200))
    silent = [float((one.abs().amax((1, 2)) == 0).float().mean()) for one in added]
    np.testing.assert_allclose(silent, [0, 0.3, 0.6, 0.9], atol=0.12)
    assert len({tuple((one.abs().amax((1, 2)) == 0).tolist()) for one in added}) == 4  # a draw for each application


# --- TLEG ----------------------------------------------------------------------------------------------------------------------------


def test_layers_lie_on_the_line(folders, corpus, tmp_path):
    method = Tleg(**SHORT)
    gene = method.fit(opened(folders, "llama"), Context(corpus=corpus, steps=3))
    learned = values(gene.stack.checkpoint.path)
    for depth in (1, 2, 7):
        context = Context(corpus=corpus, steps=3)
        written = values(_written(method, gene, folders / "llama", depth, tmp_path / str(depth), context))
        layers = [{name.split(".", 3)[3]: t for name, t in written.items() if f"layers.{i}." in name} for i in range(depth)]
        for name, first in layers[0].items():
            assert torch.equal(first, learned[f"model.layers.0.{name}"])
            slope = learned[f"model.layers.1.{name}"]
            for i in range(depth - 1):
                torch.testing.assert_close(layers[i + 1][name] - layers[i][name], slope / depth, atol=1e-6, rtol=1e-5)
        outside = [name for name in written if "layers." not in name]
        assert outside
        assert all(torch.equal(written[name], learned[name]) for name in outside)


def _written(method, gene, source, depth, out, context):
    from regraft.grow.depth.grower import write

    write(gene, method.plan(gene, depth), out, method, Checkpoint.open(source))
    return out


def test_expansion_is_linear():
    weights = line_weights([12], [7])
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 2, 5))
    np.testing.assert_allclose(weights @ (2 * one - 3 * other), 2 * weights @ one - 3 * weights @ other)
    assert weights[:, 1].tolist() == [i / 7 for i in range(7)]


def test_the_fit_is_the_least_squares_line(folders):
    source = opened(folders, "llama")
    gene, _ = started(Tleg(init="fit"), source, Context())
    model = load_model(source.checkpoint)
    name = "mlp.up_proj.weight"
    rows = torch.stack([layer.get_parameter(name).flatten() for layer in model.model.layers]).detach().double().numpy()
    slope, base = np.polyfit(np.arange(5) / 5, rows, 1)
    np.testing.assert_allclose(gene.model.layers[0].get_parameter(name).detach().flatten(), base, atol=1e-5)
    np.testing.assert_allclose(gene.model.layers[1].get_parameter(name).detach().flatten(), slope, atol=1e-5)


def test_at_random_matrices_have_slopes_and_norms_have_none(folders):
    gene, _ = started(Tleg(), opened(folders, "llama"), Context())
    base, slope = gene.model.layers
    assert torch.equal(base.input_layernorm.weight, torch.ones(16))
    assert torch.equal(slope.input_layernorm.weight, torch.zeros(16))
    for layer in (base, slope):
        assert float(layer.mlp.up_proj.weight.detach().std()) == pytest.approx(0.0176, rel=0.1)  # 0.02, cut at two deviations
    source = load_model(Checkpoint.open(folders / "llama"))
    assert not torch.equal(gene.model.embed_tokens.weight, source.model.embed_tokens.weight)
    kept, _ = started(Tleg(init="random"), opened(folders, "llama"), Context())
    assert torch.equal(kept.model.embed_tokens.weight, source.model.embed_tokens.weight)


def test_what_is_not_expanded_is_the_same_in_every_layer(folders, corpus):
    method = Tleg(init="fit", expands="attn", **SHORT)
    source = opened(folders, "llama")
    gene, _ = started(method, source, Context())
    mean = sum(layer.mlp.up_proj.weight for layer in load_model(source.checkpoint).model.layers) / 5
    torch.testing.assert_close(gene.model.layers[0].mlp.up_proj.weight, mean, atol=1e-5, rtol=1e-4)
    learned = method.fit(source, Context(corpus=corpus, steps=3))
    layers = method.expand(learned, 3).model.layers
    for name, same in (("mlp.up_proj.weight", True), ("input_layernorm.weight", True), ("self_attn.q_proj.weight", False)):
        assert torch.equal(layers[0].get_parameter(name), layers[2].get_parameter(name)) is same


def test_groups_have_lines_of_their_own(folders, corpus):
    method = Tleg(init="fit", segments="1,4", **SHORT)
    gene = method.fit(opened(folders, "llama"), Context(corpus=corpus, steps=2))
    assert gene.stack.depth == 3
    np.testing.assert_allclose(method.plan(gene, 5).graft.weights.toarray()[1:, 1:], [[1, 0], [1, 0.25], [1, 0.5], [1, 0.75]])
    assert method.plan(gene, 10).graft.weights.toarray()[:, 0].sum() == 2
    assert shares([1, 4], 1) == [0, 1]
    assert shares([4, 4, 4], 13) == [5, 4, 4]
    assert shares([1, 1, 10], 3) == [1, 1, 1]
    with pytest.raises(ParameterError, match="add up"):
        Tleg(segments="2,2", aux_depth=5).aux_plan(opened(folders, "llama"))


def test_averaging_first_is_another_model_only_where_tokens_are_averaged(folders):
    mean = load_model(Checkpoint.open(folders / "ijepa"))
    states = mean.ijepa(**inputs("ijepa")).last_hidden_state
    with torch.no_grad():  # a norm that the order matters for
        mean.ijepa.layernorm.weight.uniform_(0.5, 2)
    before = answer(mean, "ijepa")
    found = []
    mean.ijepa.layernorm.register_forward_hook(lambda *given: found.append(given[1][0].mean(1)))
    answer(mean, "ijepa")
    with torch.no_grad():
        expected = mean.classifier(
            torch.nn.functional.layer_norm(found[0], (16,), mean.ijepa.layernorm.weight, mean.ijepa.layernorm.bias, 1e-6)
        )
    changed = average_first(mean)
    assert states.shape[-1] == 16
    torch.testing.assert_close(answer(changed, "ijepa"), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, answer(changed, "ijepa"), atol=1e-3)
    by_token = load_model(Checkpoint.open(folders / "vit"))
    assert average_first(by_token) is by_token
    assert isinstance(by_token.classifier, torch.nn.Linear)


# --- SWS -----------------------------------------------------------------------------------------------------------------------------


def test_the_default_plan_is_the_published_one():
    assert default_sources(12, 5) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert default_sources(16, 5) == [0] * 4 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert default_sources(3, 5) == [0, 2, 4]
    assert default_sources(1, 5) == [0]
    for depth in range(5, 20):
        plan = default_sources(depth, 5)
        assert len(plan) == depth
        assert plan == sorted(plan)
        assert set(plan) == set(range(5))


@pytest.mark.parametrize(
    ("plan", "message"),
    [("0,1,0,1", "falls"), ("0,0,1", "are 3 layers"), ("0,0,1,7", "stages 0 to 1"), ("a,b", "numbers of stages")],
)
def test_a_plan_that_cannot_be_is_refused(plan, message):
    with pytest.raises(ParameterError, match=message):
        Sws(layers_source=plan).sources(4, 2)


def test_a_plan_of_ones_own_is_written_and_recorded(folders, corpus, tmp_path):
    method = Sws(stages="2,2", layers_source="0,0,0,1", init="mean", **SHORT)
    context = Context(corpus=corpus, steps=2)
    grown = method.grow(Checkpoint.open(folders / "gpt2"), 4, tmp_path / "out", context)
    about = json.loads((tmp_path / "out" / "regraft.json").read_text())
    assert about["method"]["parameters"]["layers_source"] == "0,0,0,1"
    assert about["metrics"]["plan"] == [{"0": 1.0}, {"0": 1.0}, {"0": 1.0}, {"1": 1.0}]
    assert grown.facts["layers"] == 4
    assert "stage 0: 3 times, learned with 2" in context.notes[0]
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.n_layer == 4


def test_stages_start_from_the_models_layers(folders):
    source = opened(folders, "llama")
    np.testing.assert_allclose(
        Sws(stages="2,3", init="mean").start(source).graft.weights.toarray(), [[0.5, 0.5, 0, 0, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3]]
    )
    np.testing.assert_allclose(Sws(stages="2,3", init="pick").start(source).graft.weights.toarray(), [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]])
    with pytest.raises(ParameterError, match="how often"):
        Sws(stages="2,0").aux_plan(source)


# --- distillation --------------------------------------------------------------------------------------------------------------------


def test_distillation_is_torchs_divergence():
    student, teacher = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0))
    plain = kl_div(log_softmax(student, -1), torch.softmax(teacher, -1), reduction="sum")
    torch.testing.assert_close(soft_distillation(student, teacher, 1.0, "numel"), plain / 54)
    torch.testing.assert_close(soft_distillation(student, teacher, 1.0, "batchmean"), plain / 6)
    warm = kl_div(log_softmax(student / 3, -1), torch.softmax(teacher / 3, -1), reduction="sum")
    torch.testing.assert_close(soft_distillation(student, teacher, 3.0, "numel"), 9 * warm / 54)
    labels = torch.tensor([0, 1, -100, 2, 3, -100])
    mixed = with_labels(student, plain, labels, 0.25)
    torch.testing.assert_close(mixed, 0.75 * torch.nn.functional.cross_entropy(student, labels) + 0.25 * plain)
    assert with_labels(student, plain, None, 0.25) is plain
    assert float(hidden_distillation(student, student)) == pytest.approx(0, abs=1e-6)
    assert float(hidden_distillation(student, -student)) == pytest.approx(float(4 * student.square().mean() + 2), rel=1e-5)


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_the_gradient_of_text_in_blocks_is_the_plain_one(folders, corpus, name, alpha, monkeypatch):
    from regraft.grow.depth.learned import grower as module
    from regraft.language.model import LanguageModel

    method = Tleg(init="random", alpha=alpha, tau=2.0, **SHORT)
    source, context = opened(folders, name), Context(corpus=corpus, steps=1)
    gene, stack = started(method, source, context)
    teacher = load_model(source.checkpoint)
    student = auxiliary(gene, stack, method.aux_plan(source))
    monkeypatch.setattr(LanguageModel, "block", lambda self: 7)
    objective = module._objective(method, source, student, teacher, context, None)
    loss = objective.backward(0)
    found = {key: one.grad.clone() for key, one in gene.named_parameters() if one.grad is not None}
    gene.zero_grad()
    drawn, _ = objective.stream.blocks(0, 2)
    ids = torch.from_numpy(drawn)
    seen, labels = ids, torch.full(ids.shape, -100)
    if name == "bert":
        from regraft.training.objectives import mask_tokens

        hidden, at = mask_tokens(drawn, objective.student, np.random.default_rng([0, 3, 0]))
        seen, labels[torch.from_numpy(at)] = torch.from_numpy(hidden), ids[torch.from_numpy(at)]
    else:
        labels[:, :-1] = ids[:, 1:]
    logits, told = student(input_ids=seen).logits.flatten(0, 1), teacher(input_ids=seen).logits.flatten(0, 1).detach()
    plain = soft_distillation(logits, told, 2.0, "batchmean")
    assert loss == pytest.approx(float(plain.detach()), rel=1e-4)
    with_labels(logits, plain, labels.flatten(), alpha).backward()
    for key, one in gene.named_parameters():
        if key in found:
            torch.testing.assert_close(found[key], one.grad, atol=1e-5, rtol=1e-3)
    assert set(found) == {key for key, one in gene.named_parameters() if one.grad is not None}


def test_a_short_run_from_a_random_start_is_told_of(folders, corpus, tmp_path):
    for method, word in ((Tleg(**SHORT), "init=fit"), (Sws(stages="2", **SHORT), "init=pick")):
        context = Context(corpus=corpus, steps=1)
        method.grow(Checkpoint.open(folders / "gpt2"), 2, tmp_path / method.name, context)
        assert [word in note and "1 steps" in note for note in context.notes] == [True]


def test_learning_pays(folders, corpus):
    method = Tleg(init="fit", lr=3e-3, warmup=0.1, **SHORT)
    gene = method.fit(opened(folders, "llama"), Context(corpus=corpus, steps=40))
    losses = [loss for _, loss in gene.facts["curve"]]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])
    assert gene.facts["loss_unit"] == "nats a token"
    kept = Tleg(init="fit", outside="keep", lr=3e-3, **SHORT).fit(opened(folders, "llama"), Context(corpus=corpus, steps=2))
    learned, source = values(kept.stack.checkpoint.path), values(folders / "llama")
    assert torch.equal(learned["model.embed_tokens.weight"], source["model.embed_tokens.weight"])


def test_a_killed_run_goes_on_to_the_same_gene(folders, corpus, tmp_path, monkeypatch):
    from regraft.grow.depth.learned import training
    from regraft.grow.depth.learned.objectives import LanguageObjective

    method = Sws(stages="2,1", init="pick", **SHORT)
    source = opened(folders, "llama")
    whole = method.fit(source, Context(corpus=corpus, steps=6))
    plain = LanguageObjective.backward

    def killed(self, step):
        if step == 4:
            raise KeyboardInterrupt
        return plain(self, step)

    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    context = Context(corpus=corpus, steps=6, gene=tmp_path / "gene")
    with monkeypatch.context() as patch:
        patch.setattr(LanguageObjective, "backward", killed)
        with pytest.raises(KeyboardInterrupt):
            method.grow(source.checkpoint, 3, tmp_path / "out", context)
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="another run"):
        method.fit(source, Context(corpus=corpus, steps=7, gene=tmp_path / "gene"))
    asked = []
    monkeypatch.setattr(LanguageObjective, "backward", lambda self, step: asked.append(step) or plain(self, step))
    method.grow(source.checkpoint, 3, tmp_path / "out", context)
    assert asked == [4, 5]
    first, second = values(whole.stack.checkpoint.path), values(tmp_path / "gene")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["gene", "out"]


def test_a_kept_gene_is_grown_from_without_text(folders, corpus, tmp_path):
    method = Tleg(init="fit", segments="2,3", **SHORT)
    source = Checkpoint.open(folders / "gpt2")
    method.grow(source, 5, tmp_path / "first", Context(corpus=corpus, steps=2, gene=tmp_path / "gene"))
    again = Tleg()  # settings of the gene are its own
    again.grow(source, 5, tmp_path / "second", Context(gene=tmp_path / "gene"))
    first, second = values(tmp_path / "first"), values(tmp_path / "second")
    assert all(torch.equal(first[name], second[name]) for name in first)
    context = Context(gene=tmp_path / "gene")
    assert not context.notes  # it started from the model
    again.grow(source, 9, tmp_path / "third", context)
    assert "as 5" in context.notes[0]
    with pytest.raises(InputError, match="a gene of tleg"):
        Sws().grow(source, 5, tmp_path / "fourth", Context(gene=tmp_path / "gene"))
    with pytest.raises(InputError, match="another model"):
        again.grow(Checkpoint.open(folders / "llama"), 5, tmp_path / "fourth", Context(gene=tmp_path / "gene"))


def test_other_heads_than_the_gene_has_learned_with_are_refused(folders, corpus, tmp_path):
    source = Checkpoint.open(folders / "gpt2")
    method = Sws(stages="1,1", init="pick", **SHORT)
    method.grow(source, 2, tmp_path / "first", Context(corpus=corpus, steps=1, gene=tmp_path / "gene"))
    path = tmp_path / "gene" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_head": 4}))
    with pytest.raises(ParameterError, match="num_attention_heads 2 -> 4"):
        method.grow(source, 2, tmp_path / "second", Context(gene=tmp_path / "gene"))
    Sws(stages="1,1", force_heads=True).grow(source, 2, tmp_path / "second", Context(gene=tmp_path / "gene"))


# --- bad input -----------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_learned_from_is_said_in_one_line(folders, tmp_path):
    source = opened(folders, "llama")
    with pytest.raises(ParameterError, match="give some with --corpus"):
        Tleg().fit(source, Context())
    (tmp_path / "short.txt").write_text("zor\n\nflum\n\nquix\n\nzor zor")
    with pytest.raises(CorpusError, match="less than one block"):
        Tleg().fit(source, Context(corpus=Corpus.open([str(tmp_path / "short.txt")], held_out=0.3)))
    with pytest.raises(ParameterError, match="expands=nose"):
        Tleg(expands="nose").fit(source, Context())
    vit = opened(folders, "vit")
    with pytest.raises(ParameterError, match="images=FILE"):
        Tleg().fit(vit, Context())
    np.save(tmp_path / "wrong.npy", np.zeros((3, 3, 8, 8), np.float32))
    np.save(tmp_path / "nan.npy", np.full((3, 1, 8, 8), np.nan, np.float32))
    np.savez(tmp_path / "labels.npz", pixel_values=np.zeros((3, 1, 8, 8), np.float32), labels=np.zeros(2))
    (tmp_path / "empty").mkdir()
    said = {
        "absent.npz": "no such file",
        "wrong.npy": r"\(3, 3, 8, 8\)",
        "nan.npy": "not finite",
        "labels.npz": "2 labels for 3",
        "short.txt": "cannot be read",
        "empty": "no pictures",
    }
    for name, message in said.items():
        with pytest.raises(InputError, match=message):
            Tleg(images=str(tmp_path / name)).fit(vit, Context())


def test_a_loss_that_is_not_finite_ends_the_run(folders, tmp_path):
    shutil.copytree(folders / "vit", tmp_path / "broken")
    model = load_model(Checkpoint.open(folders / "vit"))
    with torch.no_grad():
        model.classifier.bias.fill_(torch.nan)
    model.save_pretrained(tmp_path / "broken")
    with pytest.raises(ParameterError, match="not finite at step 0"):
        Tleg(images=str(folders / "pictures.npz")).fit(LayerStack.open(Checkpoint.open(tmp_path / "broken")), Context(steps=2))


def test_layers_that_are_not_alike_cannot_be_mixed(tmp_path, folders):
    model = load_model(Checkpoint.open(folders / "llama"))
    model.save_pretrained(tmp_path / "odd")
    source = opened(tmp_path, "odd")
    layers = [dict(layer) for layer in source.layers]
    layers[2].pop(next(iter(layers[2])))
    odd = LayerStack(**{**vars(source), "layers": tuple(layers)})
    with pytest.raises(CheckpointError, match="cannot be mixed"):
        learn(Tleg(), odd, Context())
