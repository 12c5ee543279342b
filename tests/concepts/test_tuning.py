"""Adapters and tuned weights: the same as plain diffusers makes of the files, learned by the recipe, and nothing left behind."""

import numpy as np
import pytest
import torch

from regraft.concepts.concept import load_concept, together
from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.pipeline import encode
from regraft.concepts.kinds.adapter import A1111, FILE, AdapterConcept, layers
from regraft.concepts.method import Lesson, Plan
from regraft.concepts.methods.dreambooth import Dreambooth
from regraft.concepts.methods.lora import Lora
from regraft.errors import CheckpointError, ParameterError
from toys.pipelines import pictures, stable_diffusion, stable_diffusion_xl

PROMPT = "a photo of a <my-cat> on a red background"


def lesson(pipeline, word="<my-cat>"):
    return Lesson(pipeline, pictures(), word, "cat")


def lora(pipeline, steps=3, word="<my-cat>", **settings):
    return Lora(steps=steps, lr=0.05, **settings).learn(lesson(pipeline, word), Plan())


def predicted(pipeline, prompt="a red cat"):
    diffusion = Diffusion(pipeline, pictures().images)
    with torch.no_grad():
        return diffusion.predict(diffusion.grid(2)[0], encode(pipeline, [prompt] * 4))


def state(pipeline):
    found = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    return found, [type(part) for part in pipeline.unet.modules()], [value.requires_grad for value in pipeline.unet.parameters()]


def same(one, two):
    return one[0].keys() == two[0].keys() and all(torch.equal(one[0][name], two[0][name]) for name in one[0]) and one[1:] == two[1:]


@pytest.mark.parametrize(("make", "file"), [(stable_diffusion, FILE), (stable_diffusion, A1111), (stable_diffusion_xl, FILE)])
def test_plain_diffusers_opens_an_adapter_and_says_the_same(make, file, tmp_path):
    pipeline = make()
    taught = lora(pipeline).concept
    taught.save(tmp_path)
    with together(pipeline, [load_concept(tmp_path)]):
        ours = predicted(pipeline)
        changed = predicted(pipeline, PROMPT)
    plain = make()
    plain.load_lora_weights(str(tmp_path), weight_name=file)
    assert torch.allclose(ours, predicted(plain), atol=1e-6)
    assert not torch.allclose(ours, predicted(pipeline), atol=1e-4)
    assert torch.allclose(changed, predicted(plain, "a photo of a sks cat on a red background"), atol=1e-6)


@pytest.mark.parametrize("method", [Lora(steps=2), Dreambooth(steps=2, prior=2, prior_steps=2)])
def test_the_pipeline_is_as_it_was_and_can_learn_the_same_again(method):
    pipeline = stable_diffusion()
    before, said = state(pipeline), predicted(pipeline)
    one = method.learn(lesson(pipeline), Plan(seed=3)).concept
    two = method.learn(lesson(pipeline), Plan(seed=3)).concept
    held = "tensors" if isinstance(one, AdapterConcept) else "unet"
    assert all(torch.equal(value, getattr(two, held)[name]) for name, value in getattr(one, held).items())
    with together(pipeline, [one]):
        assert not torch.equal(predicted(pipeline), said)
    assert same(before, state(pipeline))
    assert torch.equal(predicted(pipeline), said)
    assert not hasattr(pipeline.unet, "peft_config")


def test_adapters_add_up_and_scale():
    pipeline = stable_diffusion()
    one, two = lora(pipeline).concept, lora(pipeline, word="<b>", rank=2).concept
    plain = predicted(pipeline)
    with together(pipeline, [one.scaled(0.0)]):
        assert torch.allclose(predicted(pipeline), plain, atol=1e-6)
    with together(pipeline, [one, two.scaled(0.5)]):
        layer = layers(pipeline)[0]
        x = torch.randn(2, layer.in_features)
        parts = [
            scale * (x @ taught.tensors[f"unet.{name}.lora.down.weight"].T) @ taught.tensors[f"unet.{name}.lora.up.weight"].T
            for taught, scale in ((one, 1.0), (two, 0.5))
            for name in [next(name for name, part in pipeline.unet.named_modules() if part is layer)]
        ]
        assert torch.allclose(layer(x), layer.base_layer(x) + sum(parts), atol=1e-5)
    assert torch.equal(predicted(pipeline), plain)


def test_an_adapter_of_the_users_own_stays(tmp_path):
    pipeline = stable_diffusion()
    lora(pipeline).concept.save(tmp_path)
    pipeline.load_lora_weights(str(tmp_path), weight_name=FILE, adapter_name="own")
    pipeline.set_adapters(["own"], [0.7])
    before, said = state(pipeline), predicted(pipeline)
    taught = lora(pipeline, word="<b>").concept
    with together(pipeline, [taught]):
        assert not torch.allclose(predicted(pipeline), said)
    assert same(before, state(pipeline))
    assert torch.equal(predicted(pipeline), said)
    assert pipeline.get_active_adapters() == ["own"]


def test_the_loss_on_the_pictures_falls():
    pipeline = stable_diffusion()
    diffusion, context = Diffusion(pipeline, pictures().images), None

    def loss():
        with torch.no_grad():
            return float(torch.cat([diffusion.losses(batch, context) for batch in diffusion.grid(4)]).mean())

    context = encode(pipeline, ["a photo of sks cat"] * 4)
    before = loss()
    for taught in (
        lora(pipeline, steps=12).concept,
        Dreambooth(steps=12, lr=5e-3, batch=4, prior=0).learn(lesson(pipeline), Plan()).concept,
    ):
        with together(pipeline, [taught]):
            assert loss() < before


def test_pictures_of_the_class_are_learned_beside(monkeypatch):
    import regraft.concepts.tuning as tuning

    pipeline, asked = stable_diffusion(), []
    real = tuning.draw
    monkeypatch.setattr(tuning, "draw", lambda *given, **how: asked.append(given) or real(*given, **how))
    plain, beside = lora(pipeline), lora(pipeline, prior=3, prior_steps=2)
    assert asked[0][2] == ["a photo of cat"] * 3
    assert beside.curve[0][1] > plain.curve[0][1] + 0.3  # the sum of two losses of about one
    assert lora(pipeline, prior=3, prior_steps=2, prior_weight=0.0).curve == plain.curve


def test_a_word_that_is_known_stands_for_itself(tmp_path):
    pipeline = stable_diffusion()
    taught = lora(pipeline, word="sks").concept
    assert taught.words() == {}
    taught.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {FILE, A1111, "concept.json"}
    images = draw(pipeline, [load_concept(tmp_path)], ["a sks cat"], Drawing(steps=2))
    assert not np.array_equal(images, draw(pipeline, [], ["a sks cat"], Drawing(steps=2)))


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    import regraft.concepts.learning as learning

    monkeypatch.setattr(learning, "KEPT_EVERY", 2)
    pipeline = stable_diffusion()
    whole = Lora(steps=4).learn(lesson(pipeline), Plan()).concept
    Lora(steps=3).learn(lesson(pipeline), Plan(state=tmp_path / "s"))
    part = Lora(steps=4).learn(lesson(pipeline), Plan(state=tmp_path / "s")).concept
    assert all(torch.equal(value, part.tensors[name]) for name, value in whole.tensors.items())


def test_what_does_not_fit_is_refused(tmp_path):
    taught = lora(stable_diffusion()).concept
    pipeline = stable_diffusion_xl()
    before = state(pipeline)
    with pytest.raises(ParameterError, match="does not fit this pipeline"), AdapterConcept("sks", taught.tensors).installed(pipeline):
        pass
    assert same(before, state(pipeline))
    taught.save(tmp_path)
    (tmp_path / FILE).write_bytes(b"odd")
    with pytest.raises(CheckpointError, match="not an adapter that can be read"):
        load_concept(tmp_path)
