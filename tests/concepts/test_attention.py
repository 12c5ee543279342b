"""Attention maps as they are, with gradient, and the layers untouched afterwards."""

import pytest
import torch

from regraft.concepts.host.attention import cross_attention, recorded
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.pipeline import Conditioning, encode
from toys.pipelines import pictures, stable_diffusion, stable_diffusion_xl


@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl])
def test_maps_of_every_layer_are_probabilities_and_change_nothing(make):
    pipeline = make()
    diffusion = Diffusion(pipeline, pictures().images)
    batch, context = diffusion.grid(1)[0], encode(pipeline, ["a photo of a cat"] * 4)
    before = {name: (layer.processor, set(vars(layer))) for name, layer in cross_attention(pipeline.unet).items()}
    with torch.no_grad():
        plain = diffusion.predict(batch, context)
        with recorded(pipeline.unet) as maps:
            ours = diffusion.predict(batch, context)
    assert torch.allclose(plain, ours, atol=1e-5)
    assert maps.keys() == before.keys()
    assert len(maps) > 2
    for name, map_ in maps.items():
        heads = cross_attention(pipeline.unet)[name].heads
        assert map_.shape[:2] == (4, heads)
        assert map_.shape[3] == context.embeds.shape[1]
        assert torch.allclose(map_.sum(-1), torch.ones(map_.shape[:-1]), atol=1e-5)
    assert before == {name: (layer.processor, set(vars(layer))) for name, layer in cross_attention(pipeline.unet).items()}


def test_a_map_is_the_softmax_of_its_layer():
    pipeline = stable_diffusion()
    diffusion = Diffusion(pipeline, pictures().images)
    batch, context = diffusion.grid(1)[0], encode(pipeline, ["a photo of a cat"] * 4)
    name, layer = next(iter(cross_attention(pipeline.unet).items()))
    seen = []
    hook = layer.to_q.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad(), recorded(pipeline.unet) as maps:
        diffusion.predict(batch, context)
        key = layer.to_k(context.embeds)
    hook.remove()
    query, key = (part.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in (seen[0], key))
    by_hand = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    assert torch.allclose(maps[name], by_hand, atol=1e-5)


def test_gradients_pass_from_maps_to_the_prompt():
    pipeline = stable_diffusion()
    diffusion = Diffusion(pipeline, pictures().images)
    embeds = encode(pipeline, ["a photo of a cat"] * 4).embeds.detach().requires_grad_()
    with recorded(pipeline.unet, keep=lambda map_: map_.mean((1, 2))) as maps:
        diffusion.predict(diffusion.grid(1)[0], Conditioning(embeds))
    assert all(map_.shape == (4, embeds.shape[1]) for map_ in maps.values())
    sum(map_[:, 3].sum() for map_ in maps.values()).backward()
    assert embeds.grad.abs().sum() > 0
