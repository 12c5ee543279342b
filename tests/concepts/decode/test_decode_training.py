"""Training on real parts of diffusers: what it holds to, what is kept, what is drawn, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from PIL import Image

from regraft.concepts.decode import EmbeddingConditioner, EmbeddingToImagePipeline, Pictures, draw_large, fit
from regraft.concepts.decode.decoder import SIZES, Examples, Plan
from regraft.concepts.decode.decoders.label_conditional import LabelConditional
from regraft.concepts.decode.decoders.representation_guided_diffusion import RepresentationGuidedDiffusion
from regraft.concepts.decode.decoders.unconditional import Unconditional
from regraft.concepts.decode.large import Canvas
from regraft.concepts.decode.pictures import read_embeddings, read_labels
from regraft.concepts.decode.training import NotFiniteError, _flipped, _restored, _state, built, train
from regraft.errors import InputError

TINY = RepresentationGuidedDiffusion(channels=(8, 8), width=16, blocks=1, lr=1e-2, warmup=2, prediction_type="v_prediction")


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def examples(count=24, size=4, channels=3, seed=0):
    """Images of one brightness each, which is the direction of their embedding."""
    angle = np.linspace(0, np.pi, count)
    pixels = np.repeat((np.cos(angle) / 2 + 0.5)[:, None, None, None], channels, 1) * np.ones((1, 1, size, size))
    rows = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1).astype(np.float32)
    return Examples.of(Pictures.of(pixels), rows * 7, labels=["dark" if c < 0 else "light" for c in np.cos(angle)])


@pytest.fixture(scope="module")
def trained():
    return train(TINY, examples(), Plan(steps=70, batch=16))


def test_a_token_is_a_linear_map_of_the_direction():
    torch.manual_seed(0)
    two = EmbeddingConditioner(levels=(4, 2), width=6)
    z = torch.randn(3, 6)
    tokens = two(z)
    assert tokens.shape == (3, 2, 6)
    torch.testing.assert_close(tokens, two(5 * z))
    torch.testing.assert_close(tokens[:, 1], two.maps[1](z[:, 4:] / z[:, 4:].norm(dim=1, keepdim=True)))
    torch.testing.assert_close(two(torch.zeros(1, 6)), two.null())  # no division by zero
    torch.testing.assert_close(two.null()[0, 0], two.maps[0].bias)
    plain = EmbeddingConditioner(levels=(4, 2), width=6, normalize=False)
    assert not torch.allclose(plain(z), plain(5 * z))


def test_levels_are_dropped_by_coins_of_their_own():
    two = EmbeddingConditioner(levels=(4, 2), width=6)
    kept = two.dropped(torch.ones(4000, 6), 0.1, draw()) != 0
    assert (kept[:, 0] == kept[:, 3]).all()
    for level in (0, 4):
        assert abs(float(kept[:, level].float().mean()) - 0.9) < 0.02
    assert abs(float((~kept[:, 0] & ~kept[:, 4]).float().mean()) - 0.01) < 0.006
    assert (two.dropped(torch.ones(5, 6), 0.0) == 1).all()


def test_flips_are_of_images_each_for_itself():
    images = torch.arange(64 * 4.0).reshape(64, 1, 2, 2)
    found = _flipped(images, "both", draw())
    same = (found == images).flatten(1).all(1)
    assert 5 < same.sum() < 30
    torch.testing.assert_close(found.flatten(1).sort(1).values, images.flatten(1).sort(1).values)
    across = _flipped(images, "horizontal", draw())
    assert (across[:, :, 0].amax(-1) < across[:, :, 1].amin(-1)).all()  # never upside down
    assert _flipped(images, "none", draw()) is images


def test_it_draws_what_the_embedding_says(trained):
    asked = np.array([[3.0, 0, 0], [0, 1, 0], [-1, 0, 0]], dtype=np.float32).repeat(8, 0)
    found = trained(asked, num_inference_steps=10, generator=draw(), output_type="pt").images.mean((1, 2, 3)).reshape(3, 8).mean(1)
    assert found[0] > found[1] + 0.15
    assert found[1] > found[2] + 0.15


def test_it_opens_again_and_its_parts_by_plain_diffusers(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    again = EmbeddingToImagePipeline.from_pretrained(tmp_path)
    z = examples().embeddings[:2]
    one, two = (p(z, num_inference_steps=3, generator=draw(), output_type="np").images for p in (trained, again))
    np.testing.assert_array_equal(one, two)
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    assert unet.config.cross_attention_dim == 16
    assert unet.config.sample_size == 4
    assert again.scheduler.config.beta_end == 0.0195
    assert not list(tmp_path.rglob("*.bin"))


def test_any_scheduler_samples(trained):
    other = EmbeddingToImagePipeline(
        trained.unet, trained.conditioner, PNDMScheduler.from_config(trained.scheduler.config, skip_prk_steps=True)
    )
    images = other(examples().embeddings[:2], num_inference_steps=5, generator=draw()).images
    assert [image.size for image in images] == [(4, 4)] * 2


def test_the_batch_of_drawing_changes_nothing(trained):
    z = examples().embeddings[:5]
    one, two = (trained(z, num_inference_steps=3, generator=draw(), batch_size=b, output_type="pt").images for b in (2, 5))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_a_stopped_run_ends_where_a_whole_one_does(tmp_path, monkeypatch):
    plan, given = Plan(steps=6, batch=4), examples()
    whole = train(TINY, given, plan)
    train(TINY, given, replace(plan, steps=3), unfinished=tmp_path)
    on = train(TINY, given, plan, unfinished=tmp_path)
    for part in ("unet", "conditioner"):
        for name, value in getattr(whole, part).state_dict().items():
            torch.testing.assert_close(getattr(on, part).state_dict()[name], value, msg=name)
    with pytest.raises(InputError, match="other settings or data"):
        train(TINY, given, replace(plan, batch=5), unfinished=tmp_path)


def test_nan_stops_with_the_last_good_state(tmp_path):
    given = examples()
    bad = RepresentationGuidedDiffusion(**{**TINY.__dict__, "lr": 1e30, "warmup": 0})
    with pytest.raises(NotFiniteError, match=rf"stopped at step \d+: .* after step 0 is kept in {tmp_path}"):
        train(bad, given, Plan(steps=20, batch=4), unfinished=tmp_path)
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "state.safetensors")
    assert all(value.isfinite().all() for value in kept.values())
    fresh = built(bad, given.pictures, given.levels, None, None, 0)
    optimizer = torch.optim.AdamW([*fresh.unet.parameters(), *fresh.conditioner.parameters()])
    assert _restored(kept, fresh, optimizer) == 0
    assert _state(fresh, optimizer, 0).keys() == kept.keys()


def test_it_works_on_latents_of_an_autoencoder():
    torch.manual_seed(0)
    shape = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4}
    vae = AutoencoderKL(block_out_channels=(4, 8), latent_channels=4, sample_size=16, scaling_factor=0.5, **shape)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    given = examples(size=16)
    made = fit(given.pictures, given.embeddings, decoder=TINY, plan=Plan(steps=2, batch=4), vae=vae)
    assert (made.window, made.factor) == (8, 2)
    assert all((value == before[name]).all() for name, value in made.vae.state_dict().items())
    assert made(given.embeddings[:1], num_inference_steps=2).images[0].size == (16, 16)
    assert draw_large(made, given.embeddings[:2][None], Canvas(steps=2)).shape == (3, 16, 32)
    with pytest.raises(InputError, match="1 channel"):
        fit(examples(size=16, channels=1).pictures, given.embeddings, decoder=TINY, vae=vae)


def test_it_goes_on_from_a_u_net(trained):
    given = examples()
    start = UNet2DConditionModel.from_config(trained.unet.config)
    start.load_state_dict(trained.unet.state_dict())
    on = train(replace(TINY, lr=1e-9), given, Plan(steps=1, batch=2), start=start)
    torch.testing.assert_close(on.unet.conv_in.weight, trained.unet.conv_in.weight)
    with pytest.raises(InputError, match="cross_attention_dim 16, needed is 32"):
        train(replace(TINY, width=32), given, Plan(steps=1), start=start)


def test_baselines_condition_on_the_class_and_on_nothing():
    given = examples()
    rows, levels = LabelConditional().conditions(given)
    assert levels == (2,)
    assert (rows.argmax(1) == given.labels).all()
    assert not Unconditional().conditions(given)[0].any()
    with pytest.raises(InputError, match="label-conditional needs labels"):
        LabelConditional().conditions(Examples.of(given.pictures, given.embeddings))


def test_regions_are_a_second_level():
    given = examples()
    around = np.zeros((24, 2), dtype=np.float32)
    made = fit(given.pictures, given.embeddings, regions=around, decoder=TINY, plan=Plan(steps=1, batch=2))
    assert made.conditioner(torch.randn(3, 5)).shape == (3, 2, 16)
    with pytest.raises(InputError, match=r"embeddings are 3 wide: this model was trained on 5 \(3 \+ 2\)"):
        made(given.embeddings)


def test_the_paper_is_the_default_and_small_sizes_are_its_fields():
    own = RepresentationGuidedDiffusion()
    assert (own.channels, own.width, own.p_uncond, own.lr, own.warmup) == ((192, 384, 576, 960), 512, 0.1, 1e-4, 1000)
    for size in SIZES.values():
        assert RepresentationGuidedDiffusion(**size)
    with torch.device("meta"):
        unet = built(own, Pictures.of(np.zeros((1, 3, 64, 64))), (384,), None, None, 0).unet
    assert [type(block).__name__ for block in unet.down_blocks] == ["DownBlock2D"] + 3 * ["CrossAttnDownBlock2D"]
    assert unet.down_blocks[1].attentions[0].transformer_blocks[0].attn2.heads == 1


# Files


def save(folder, name, array, mode=None):
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=np.uint8), mode).save(folder / name)


def test_images_of_a_folder(tmp_path):
    color, gray = np.full((6, 6, 3), 200), np.full((6, 6), 100)
    save(tmp_path / "a", "1.png", color)
    save(tmp_path / "a", "2.png", gray)
    found = Pictures.read(tmp_path / "a")
    assert (found.names, found.channels, found.size) == (["1.png", "2.png"], 3, 6)
    assert "1 of 2 images are gray" in found.notes[0]
    assert ((found.take([1]) + 1) * 127.5 - 100).abs().max() < 1e-4
    (tmp_path / "a" / "1.png").unlink()
    assert Pictures.read(tmp_path / "a").channels == 1
    assert Pictures.read(tmp_path / "a", color=True).channels == 3


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Pictures.read(tmp_path / "none")
    with pytest.raises(InputError, match="holds no images"):
        Pictures.read(tmp_path)
    save(tmp_path / "m", "1.png", np.zeros((6, 6, 3)))
    save(tmp_path / "m", "2.png", np.zeros((4, 6, 3)))
    with pytest.raises(InputError, match=r"several sizes \(2.png 6x4, 1.png 6x6\)"):
        Pictures.read(tmp_path / "m")
    assert Pictures.read(tmp_path / "m", size=4).take([0, 1]).shape == (2, 3, 4, 4)
    save(tmp_path / "o", "1.png", np.zeros((4, 6, 3)))
    with pytest.raises(InputError, match="6x4, not square"):
        Pictures.read(tmp_path / "o")
    (tmp_path / "m" / "3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"3.png: cannot be read as an image"):
        Pictures.read(tmp_path / "m", size=4)
    whole = (tmp_path / "o" / "1.png").read_bytes()
    save(tmp_path / "c", "1.png", np.random.default_rng(0).integers(256, size=(64, 64, 3)))
    whole = (tmp_path / "c" / "1.png").read_bytes()
    (tmp_path / "c" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"1.png: cannot be read as an image"):
        Pictures.read(tmp_path / "c")


def test_embeddings_and_labels_that_are_refused(tmp_path):
    path = tmp_path / "z.npy"
    with pytest.raises(InputError, match="no such file"):
        read_embeddings(path)
    for array, said in (
        (np.zeros((3, 2)), "3 embeddings for 4 images"),
        (np.array(["a", "b"]), "needs an array of numbers"),
        (np.zeros((0, 2)), "needs"),
    ):
        np.save(path, array)
        with pytest.raises(InputError, match=said):
            read_embeddings(path, 4)
    np.save(path, np.where(np.arange(8).reshape(4, 2) == 5, np.nan, 1.0))
    with pytest.raises(InputError, match="row 2 holds values that are not finite"):
        read_embeddings(path, 4)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="no array of numbers"):
        read_embeddings(path)
    (tmp_path / "l.csv").write_text("file,label\na.png,x\n")
    assert read_labels(tmp_path / "l.csv", ["a.png"]) == ["x"]
    with pytest.raises(InputError, match=r"1 of 2 images have no label there, such as b.png"):
        read_labels(tmp_path / "l.csv", ["a.png", "b.png"])


def test_sizes_that_do_not_halve():
    with pytest.raises(InputError, match=r"images of 7 pixels do not halve 1 times: .*--image-size 8"):
        fit(Pictures.of(np.zeros((2, 3, 7, 7))), np.zeros((2, 3), np.float32), decoder=TINY)
    assert json.dumps(TINY.channels) == "[8, 8]"
