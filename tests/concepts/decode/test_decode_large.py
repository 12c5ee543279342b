"""Large images: mixing of embeddings, windows, averages and blending, in closed form and against diffusers and scipy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from scipy.spatial import geometric_slerp

from regraft.concepts.decode.conditioner import EmbeddingConditioner
from regraft.concepts.decode.job import cells
from regraft.concepts.decode.large import (
    Canvas,
    _moments,
    decode_large,
    draw_large,
    draw_latents,
    in_grids,
    origins,
    placed,
    slerp,
    window_weight,
)
from regraft.concepts.decode.pipeline import EmbeddingToImagePipeline
from regraft.errors import InputError, ParameterError

SIDE = 8


class Seeing(torch.nn.Module):
    """A stand-in for a U-Net: a smooth function of the state, the time and the tokens; it counts what it is shown."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, channels=3):
        super().__init__()
        self.config = SimpleNamespace(sample_size=SIDE, in_channels=channels)
        self.weight = torch.nn.Parameter(torch.linspace(-0.5, 0.5, 8))
        self.most = 0

    def forward(self, x, t, tokens):
        self.most = max(self.most, len(x))
        push = (tokens.mean(1) * self.weight).sum(1)[:, None, None, None]
        return SimpleNamespace(sample=torch.tanh(0.5 * x + push + 0.001 * float(torch.as_tensor(t).flatten()[0])))


def pipeline(clip=False, vae=None, told="epsilon"):
    torch.manual_seed(0)
    schedule = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=clip, prediction_type=told)
    return EmbeddingToImagePipeline(Seeing(), EmbeddingConditioner(levels=(5,), width=8), schedule, vae)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(*shape, seed=1):
    return torch.randn(*shape, generator=draw(seed)).numpy()


def test_slerp_is_the_arc():
    a, b = (torch.nn.functional.normalize(torch.randn(6, 7, generator=draw(s), dtype=torch.float64), dim=1) for s in (0, 1))
    t = torch.linspace(0, 1, 6, dtype=torch.float64)
    found = slerp(t, a, b)
    for i in range(6):
        torch.testing.assert_close(found[i], torch.tensor(geometric_slerp(a[i].numpy(), b[i].numpy(), float(t[i]))))
    torch.testing.assert_close(slerp(0.0, a, b), a)
    torch.testing.assert_close(slerp(1.0, a, b), b)
    torch.testing.assert_close(found, slerp(1 - t, b, a))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6, dtype=torch.float64))


def test_slerp_of_parallel_opposite_and_zero_vectors_is_the_line():
    a = torch.tensor([[1.0, 2.0, 0.0]])
    for b in (3 * a, -a, torch.zeros_like(a)):
        torch.testing.assert_close(slerp(0.25, a, b), 0.75 * a + 0.25 * b)


def test_vectors_are_mixed_as_long_as_they_are():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    torch.testing.assert_close(slerp(0.5, a, b), torch.tensor([[2.0, 4.0]]) * np.sin(np.pi / 4))


def test_windows_get_the_embedding_of_their_place():
    grid = torch.randn(2, 3, 5, generator=draw())
    found = placed(grid, SIDE, 2, (5,))
    assert found.shape == (5, 9, 5)
    torch.testing.assert_close(found[::4, ::4], grid)
    torch.testing.assert_close(found[0, 2], slerp(0.5, grid[0, 0], grid[0, 1]))
    torch.testing.assert_close(found[3, 4], slerp(0.75, grid[0, 1], grid[1, 1]))
    constant = placed(grid[:1, :1].expand(2, 3, 5), SIDE, 2, (5,))
    torch.testing.assert_close(constant, grid[0, 0].expand(5, 9, 5))


def test_levels_are_mixed_each_for_itself():
    grid = torch.randn(2, 2, 5, generator=draw())
    found = placed(grid, SIDE, 2, (2, 3))
    torch.testing.assert_close(found[..., 2:], placed(grid[..., 2:], SIDE, 2, (3,)))
    assert not torch.allclose(found, placed(grid, SIDE, 2, (5,)))


@pytest.mark.parametrize("average", ["x0", "update"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("clip", "told"), [(False, "epsilon"), (True, "epsilon"), (True, "v_prediction")])
def test_a_canvas_of_one_window_is_ddim(average, eta, clip, told):
    one, z, noise = pipeline(clip, told=told), rows(1, 5), torch.randn(3, SIDE, SIDE, generator=draw(2))
    found = draw_large(one, z[None], Canvas(steps=6, eta=eta, guidance_scale=3.0, average=average), generator=draw(3), noise=noise)
    schedule, x, generator = one.scheduler, noise[None], draw(3)
    schedule.set_timesteps(6)
    tokens, null = one.conditioner(torch.tensor(z)), one.conditioner.null()
    with torch.no_grad():
        for t in schedule.timesteps:
            guess = one.predicted(x, t, tokens, null, 3.0)
            x = schedule.step(guess, t, x, eta=eta, generator=generator, use_clipped_model_output=average == "x0").prev_sample
        torch.testing.assert_close(found[None], one.decoded(x), atol=2e-5, rtol=0)


def test_windows_side_by_side_are_independent_tiles():
    one, grid, noise = pipeline(), rows(2, 2, 5), torch.randn(3, 2 * SIDE, 2 * SIDE, generator=draw(2))
    canvas = Canvas(stride=SIDE, steps=4, eta=0.0)
    whole = cells(draw_large(one, grid, canvas, noise=noise), (2, 2))
    parts = cells(noise, (2, 2))
    for place in range(4):
        alone = draw_large(one, grid.reshape(4, 1, 1, 5)[place], canvas, noise=parts[place])
        torch.testing.assert_close(whole[place], alone, atol=1e-5, rtol=0)


def test_averages_are_one_without_noise_and_differ_with_it():
    one, noise = pipeline(), torch.randn(3, 2 * SIDE, SIDE, generator=draw(2))

    def both(eta):
        return [
            draw_large(one, rows(2, 1, 5), Canvas(steps=4, eta=eta, average=a), noise=noise, generator=draw()) for a in ("x0", "update")
        ]

    torch.testing.assert_close(*both(0.0), atol=1e-5, rtol=0)  # a step is linear in the clean image
    assert (lambda a, b: (a - b).abs().max())(*both(1.0)) > 1e-2


def test_the_released_noise_is_that_of_a_single_step():
    one, grid = pipeline(), rows(1, 2, 5)
    small, large = (draw_large(one, grid, Canvas(steps=4, compat=c), generator=draw()) for c in ("released", None))
    assert not torch.allclose(small, large)
    every, own = (list(_moments(one.scheduler, Canvas(steps=1000, compat=c))) for c in ("released", None))
    np.testing.assert_allclose([m[3] for m in every], [m[3] for m in own], rtol=1e-3)  # nothing is skipped


def test_the_batch_of_windows_changes_nothing_but_memory():
    one, grid, noise = pipeline(), rows(3, 2, 5), torch.randn(3, 3 * SIDE, 2 * SIDE, generator=draw())
    found = [draw_large(one, grid, Canvas(steps=2, eta=0.0, batch=b), noise=noise) for b in (1, 7)]
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)
    assert one.unet.most == 7


def test_no_guidance_is_the_condition_alone():
    one = pipeline()
    x, tokens, null = torch.randn(2, 3, SIDE, SIDE, generator=draw()), one.conditioner(torch.tensor(rows(2, 5))), one.conditioner.null()
    with torch.no_grad():
        own, without = one.unet(x, torch.tensor(5), tokens).sample, one.unet(x, torch.tensor(5), null.expand_as(tokens)).sample
        torch.testing.assert_close(one.predicted(x, torch.tensor(5), tokens, null, 1.0), own)
        torch.testing.assert_close(one.predicted(x, torch.tensor(5), tokens, null, 0.0), without)
        torch.testing.assert_close(one.predicted(x, torch.tensor(5), tokens, null, 4.0), 4 * own - 3 * without)  # (1 + w) and w, w = 3


class Doubling(torch.nn.Module):
    """An autoencoder in miniature: latents drawn at twice the side, window by window."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(block_out_channels=(4, 4), scaling_factor=0.5, shift_factor=None)

    def decode(self, latents):
        return SimpleNamespace(sample=latents.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_blending_keeps_what_windows_agree_on():
    one = pipeline(vae=Doubling())
    latents = torch.full((3, 2 * SIDE, 3 * SIDE), 0.1)
    found = decode_large(one, latents)
    assert found.shape == (3, 4 * SIDE, 6 * SIDE)
    torch.testing.assert_close(found, torch.full_like(found, 0.1 / 0.5 / 2 + 0.5), atol=1e-6, rtol=0)
    smooth = torch.rand(3, 2 * SIDE, SIDE, generator=draw()) * 0.2
    torch.testing.assert_close(decode_large(one, smooth), one.decoded(smooth[None])[0], atol=1e-6, rtol=0)


def test_the_weight_of_a_window_falls_from_its_middle():
    weight = window_weight(5)
    assert weight[2, 2] == 1
    torch.testing.assert_close(weight[0, 0], torch.exp(torch.tensor(-2 / 0.64)))
    torch.testing.assert_close(weight, weight.flip(0))


def test_grids_row_by_row_and_column_by_column():
    flat = np.arange(12)[:, None]
    assert in_grids(flat, (2, 3))[1, 1, 0, 0] == 9
    assert in_grids(flat, (2, 3), "columns")[1, 1, 0, 0] == 7
    assert in_grids(flat.reshape(2, 2, 3, 1), None).shape == (2, 2, 3, 1)


def test_what_does_not_fit():
    with pytest.raises(InputError, match=r"--large 5x1: 12 embeddings do not divide into grids of 5"):
        in_grids(np.zeros((12, 3)), (5, 1))
    with pytest.raises(InputError, match="holds grids of 2x3"):
        in_grids(np.zeros((2, 2, 3, 1)), (3, 2))
    with pytest.raises(ParameterError, match="--stride 3: must divide the window of 8"):
        origins(4, 8, 3)
    with pytest.raises(InputError, match="embeddings are 4 wide: this model was trained on 5"):
        draw_large(pipeline(), np.zeros((2, 2, 4)))
    with pytest.raises(InputError, match="row 3: holds values that are not finite"):
        draw_large(pipeline(), np.where(np.arange(20).reshape(2, 2, 5) == 17, np.nan, 0.0))


def test_no_graph_grows_with_the_canvas():
    found = draw_latents(pipeline(), rows(2, 2, 5), Canvas(steps=2))
    assert found.shape == (3, 2 * SIDE, 2 * SIDE)
    assert not found.requires_grad
