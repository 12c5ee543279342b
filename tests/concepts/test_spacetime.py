"""Vectors of time and layer: the mapper's closed forms, the towers' passes beside the pipeline's own, and layers that read them."""

from dataclasses import replace

import pytest
import torch

from regraft.concepts.concept import context_of, together
from regraft.concepts.host.pipeline import encode
from regraft.concepts.kinds.mapper import MapperConcept
from regraft.concepts.kinds.word import WordConcept
from regraft.concepts.spacetime.networks import LayerRows, Mapper, Shape, Vectors, likeness
from regraft.concepts.spacetime.readers import cross_attention
from regraft.concepts.spacetime.reading import contexts, read
from regraft.errors import ParameterError
from toys.pipelines import stable_diffusion, stable_diffusion_xl
from toys.spacetime import TIMES, drawn, mapper, rows, taught


def test_the_code_is_of_length_one_and_anchors_answer_to_themselves_most():
    net = mapper()
    assert torch.allclose(net.code(TIMES).norm(dim=-1), torch.ones(4, 4), atol=1e-6)
    answers = net.code(torch.arange(5) * 200.0).flatten(0, 1) @ net.anchor.weight.T
    assert torch.allclose(answers.diagonal(), torch.ones(20), atol=1e-6)
    assert float(answers.detach().max()) <= 1 + 1e-6
    assert torch.equal(net.anchor.weight[5], net.code(torch.tensor([200.0]))[0, 1])  # all layers of a time, then the next


@pytest.mark.parametrize(("norm", "bypass"), [("split", True), ("joint", True), ("split", False)])
@pytest.mark.parametrize("keep", [None, 3, 0])
def test_vectors_have_the_length_of_the_super_category(norm, bypass, keep):
    found = mapper(norm=norm, bypass=bypass)(TIMES, keep)
    whole = found.base["clip_l"] if norm == "split" else torch.cat([found.base["clip_l"], found.bypass["clip_l"]], -1)
    assert torch.allclose(whole.norm(dim=-1), torch.full((4, 4), 0.5), atol=1e-6)
    assert (found.bypass is None) == (not bypass)


def test_truncation():
    net = mapper()
    every, whole, none = net(TIMES), net(TIMES, 8), net(TIMES, 0)
    assert torch.equal(every.base["clip_l"], whole.base["clip_l"])
    assert torch.equal(every.bypass["clip_l"], whole.bypass["clip_l"])
    bias = torch.nn.functional.normalize(net.out.bias[:16], dim=0) * 0.5
    assert torch.allclose(none.base["clip_l"], bias.expand(4, 4, 16), atol=1e-7)
    assert not torch.allclose(every.base["clip_l"], net(TIMES, 4).base["clip_l"])


@pytest.mark.parametrize(("over", "same"), [("time", 1), ("layer", 0)])
@pytest.mark.parametrize("encoding", ["fourier", "plain"])
def test_what_vectors_do_not_depend_on(over, same, encoding):
    found = mapper(over=over, encoding=encoding)(TIMES).base["clip_l"]
    assert torch.equal(found, found.select(same, 0).unsqueeze(same).expand(4, 4, 16))
    assert not torch.allclose(found, found.select(1 - same, 0).unsqueeze(1 - same).expand(4, 4, 16))
    assert likeness(mapper(over=over))["cosine_over_layers" if same else "cosine_over_time"] == pytest.approx(1)


def test_nested_dropout_tosses_a_coin_a_layer_and_cuts_each_sample_elsewhere():
    net, generator = mapper(hidden=8), torch.Generator().manual_seed(0)
    cuts = torch.stack([net.cut(6, generator) for _ in range(400)])
    whole = (cuts == 8).all(1)  # (400, layers)
    assert whole.float().mean() == pytest.approx(0.5, abs=0.05)
    assert set(cuts.unique().tolist()) == set(range(9))
    assert all(len(cuts[i, :, j].unique()) > 1 for i, j in (~whole).nonzero()[:20])
    assert (whole.any(1) & ~whole.all(1)).any()  # a layer is cut where another is not
    assert mapper(nested=0).cut(6, generator) is None


def test_the_frequencies_are_kept_but_never_learned():
    net = mapper()
    sum(part.sum() for found in [net(TIMES)] for part in (found.base["clip_l"], found.bypass["clip_l"])).backward()
    assert net.w.grad is None
    assert "w" in net.state_dict()
    assert "w" not in dict(net.named_parameters())
    assert net.anchor.weight.grad.abs().sum() > 0


def test_parameters_of_the_shape_of_stable_diffusion():
    counts = []
    for bypass in (False, True):
        with torch.device("meta"):
            net = Mapper(Shape(widths={"clip_l": 768}, lengths={"clip_l": 0.4}, layers=16, bypass=bypass))
        counts.append(sum(value.numel() for value in net.parameters()))
    assert counts == [464_544, 563_616]


@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl])
def test_the_towers_say_what_the_pipeline_says(make):
    """Of two words at two places each, in prompts whose words stand elsewhere; also the prompt that begins with the word."""
    pipeline = make()
    words = {"<my-cat>": rows(pipeline), "<my-dog>": rows(pipeline, 4)}
    prompts = ["a photo of a <my-cat> on a <my-cat>", "<my-dog> and a <my-cat>"]
    with together(pipeline, [WordConcept(word, one) for word, one in words.items()]), torch.no_grad():
        told = encode(pipeline, prompts).embeds
    with together(pipeline, [WordConcept(word, rows(pipeline, 9)) for word in words]), torch.no_grad():
        readings = [read(pipeline, prompt, list(words)) for prompt in prompts]
        vectors = {word: Vectors({key: row.expand(2, 3, -1) for key, row in one.items()}) for word, one in words.items()}
        keys, values = contexts(pipeline, readings, vectors)
    assert values is keys
    assert torch.allclose(keys, told[:, None].expand_as(keys), atol=2e-6)


def test_the_bypass_is_scaled_to_the_state_it_joins_and_moves_values_at_the_slot_alone():
    pipeline = stable_diffusion()
    row, side = rows(pipeline), torch.randn(1, 2, 16)
    with together(pipeline, [WordConcept("<my-cat>", row)]), torch.no_grad():
        reading = read(pipeline, "a photo of a <my-cat> on a", ["<my-cat>"])
        given = Vectors({"clip_l": row["clip_l"].expand(1, 2, -1)}, {"clip_l": side}, 0.2)
        keys, values = contexts(pipeline, [reading], {"<my-cat>": given})
        same, also = contexts(pipeline, [reading], {"<my-cat>": replace(given, strength=0.0)})
        ids = pipeline.tokenizer("a photo of a <my-cat> on a", padding="max_length", return_tensors="pt").input_ids
        states = pipeline.text_encoder(ids, output_hidden_states=True).hidden_states[-1]
    slot = reading.places["clip_l"]["<my-cat>"]
    o = states[0, slot][0]
    expected = pipeline.text_encoder.final_layer_norm(o + 0.2 * o.norm() * side[0] / side[0].norm(dim=-1, keepdim=True))
    assert torch.allclose(values[0][:, slot][:, 0], expected, atol=1e-5)
    assert torch.equal(values[:, :, ~slot], keys[:, :, ~slot])
    assert also is same
    assert torch.equal(same, keys)


def test_layers_are_numbered_as_they_run():
    unet, ran = stable_diffusion().unet, []
    names = cross_attention(unet)
    hooks = [unet.get_submodule(name).register_forward_hook(lambda *args, name=name: ran.append(name)) for name in names]
    with torch.no_grad():
        unet(torch.zeros(1, 4, 8, 8), 5, torch.zeros(1, 16, 16))
    assert ran == names
    assert len(hooks) == 4


@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl])
def test_one_vector_for_all_places_is_textual_inversion(make):
    pipeline = make().to(torch.float64)
    row = rows(pipeline, 7)
    layers = len(cross_attention(pipeline.unet))
    same = LayerRows({key: one.expand(layers, -1) for key, one in row.items()}).requires_grad_(False)
    concept, word = MapperConcept("<my-cat>", same, row), WordConcept("<my-cat>", row)
    prompts = ["a photo of a <my-cat>", "a cat on a <my-cat>"]
    found, told = (drawn(pipeline, [one], prompts, guidance_scale=4.0, num_images_per_prompt=2) for one in (concept, word))
    assert torch.allclose(found, told, atol=1e-12)
    plain = MapperConcept("<my-cat>", LayerRows({key: 9 * one.expand(layers, -1) for key, one in row.items()}), row)
    assert float((drawn(pipeline, [plain], prompts, guidance_scale=4.0, num_images_per_prompt=2) - told).abs().max()) > 1e-3


def test_each_row_of_a_batch_reads_what_is_its_own():
    """The half without a prompt, prompts without the word, and every time of its own: as each is alone."""
    pipeline = stable_diffusion().to(torch.float64)
    concept = taught(pipeline)
    prompts = ["a <my-cat>", "a cat", "the <my-cat> on a"]
    with together(pipeline, [concept]), torch.no_grad():
        context = context_of(pipeline, [concept], prompts)
        empty = encode(pipeline, [""]).embeds
        torch.manual_seed(2)
        noisy, t = torch.randn(4, 4, 8, 8).double(), torch.tensor([10, 10, 400, 10])
        batch = torch.cat([empty, context.embeds])
        whole = pipeline.unet(noisy, t, batch).sample
        seen = [pipeline.unet(noisy[[i]], int(t[i]), batch[[i]]).sample[0] for i in (1, 2, 3)]
        later = pipeline.unet(noisy[[1]], 900, batch[[1]]).sample[0]
    with torch.no_grad():
        stock = pipeline.unet(noisy, t, batch).sample
    assert torch.allclose(whole[1:], torch.stack(seen), atol=1e-12)
    assert torch.equal(whole[[0, 2]], stock[[0, 2]])
    assert not torch.allclose(whole[[1, 3]], stock[[1, 3]], atol=1e-4)
    assert not torch.allclose(later, seen[0], atol=1e-4)


def test_several_concepts_in_one_prompt_are_read_together():
    pipeline = stable_diffusion()
    one, two = taught(pipeline), taught(pipeline, "<my-dog>", seed=1, hidden=6)
    row = WordConcept("<hat>", rows(pipeline, 5))
    prompt = ["a <my-cat> on a <my-dog> and a <hat>"]
    images = [drawn(pipeline, concepts, prompt) for concepts in ([one, two, row], [row, two, one], [one, two.truncated(1), row])]
    assert torch.equal(images[0], images[1])
    assert not torch.allclose(images[0], images[2], atol=1e-4)


def test_nothing_is_left_behind():
    pipeline = stable_diffusion()
    before = encode(pipeline, ["a cat"]).embeds
    x = torch.ones(1, 4, 8, 8)
    told, processors = pipeline.unet(x, 5, before).sample, dict(pipeline.unet.attn_processors)
    drawn(pipeline, [taught(pipeline), taught(pipeline, "<my-dog>")], ["a <my-cat>"])
    assert torch.equal(pipeline.unet(x, 5, encode(pipeline, ["a cat"]).embeds).sample, told)
    assert processors == pipeline.unet.attn_processors
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in pipeline.unet.modules())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in pipeline.text_encoder.modules())


def test_contexts_are_made_once_a_time_and_prompt(monkeypatch):
    from regraft.concepts.spacetime import readers

    pipeline, calls = stable_diffusion(), []
    concept = taught(pipeline)

    def counted(*args):
        calls.append(len(args[1]))
        return contexts(*args)

    monkeypatch.setattr(readers, "contexts", counted)
    with together(pipeline, [concept]), torch.no_grad():
        given = context_of(pipeline, [concept], ["a <my-cat>", "the <my-cat>"]).arguments()
        for _ in range(2):
            pipeline(**given, num_inference_steps=3, output_type="latent", guidance_scale=3.0)
        assert calls == [1, 1, 2, 2, 2]
        monkeypatch.setattr(readers, "KEPT", 0)
        readers.readers_of(pipeline, "<my-cat>").forget()
        given = context_of(pipeline, [concept], ["a <my-cat>"]).arguments()
        pipeline(**given, num_inference_steps=3, output_type="latent")
    assert calls[5:] == [1, 1, 1, 1]


def test_what_would_be_read_otherwise_than_it_was_learned_is_refused():
    pipeline = stable_diffusion()
    concept = taught(pipeline)
    with together(pipeline, [concept]), torch.no_grad():
        context = context_of(pipeline, [concept], ["a <my-cat>"])
        with pytest.raises(ParameterError, match="no prompt is as `context_of` gave it"):
            pipeline.unet(torch.zeros(1, 4, 8, 8), 5, context.embeds + 0.1)
        with pytest.raises(ParameterError, match="cannot stand beside <my-cat>"):
            concept.conditioned(pipeline, ["a <my-cat>"], context.with_embeds(context.embeds + 0.1))
        with pytest.raises(ParameterError, match="behind the last place"):
            context_of(pipeline, [concept], ["a " * 20 + "<my-cat>"])
    with pytest.raises(ParameterError, match="not in the pipeline"):
        concept.conditioned(pipeline, ["a <my-cat>"], context)
    with (
        pytest.raises(ParameterError, match="learned for 3 layers of cross-attention; this pipeline's U-Net has 4"),
        together(pipeline, [taught(pipeline, layers=3)]),
    ):
        pass
    with pytest.raises(ParameterError, match="8 hidden units: give 0 to 8"):
        concept.truncated(9)
