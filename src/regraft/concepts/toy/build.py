"""Builds the toy pipeline from its start: `python -m regraft.concepts.toy.build DIR [STEPS]` (about an hour of one core).

An autoencoder (squared error and a small Kullback-Leibler term), then a text tower beside a small image tower (InfoNCE, equal captions
count as matches), which stays frozen while the U-Net learns. The result is accepted only when the judge reads at least nine in ten digits
and colors right. Weights are kept as float16.
"""

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from regraft.concepts.toy.judge import Judge
from regraft.concepts.toy.pictures import BACKGROUNDS, CATEGORY, FOREGROUNDS, WORDS, Pictures, describe, draw
from regraft.concepts.toy.words import make_tokenizer
from regraft.errors import RegraftError
from regraft.progress import progress_bar

WIDTH = 64
EMPTY = 0.1  # share of captions that the U-Net does not see
ACCEPTED = 0.9


class ImageTower(nn.Sequential):
    """Three convolutions and their mean, (n, 3, 32, 32) to (n, 64): the teacher of the text tower, thrown away after."""

    def __init__(self) -> None:
        widths = (3, 32, 64, 128)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.GELU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(128 * 16, WIDTH))


def schedule(step: int, steps: int, peak: float) -> float:
    """Warm-up over a twentieth, then a cosine to a fiftieth of `peak`."""
    warm = steps / 20
    return peak * min(1, (step + 1) / warm) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def descend(parts: list[nn.Module], steps: int, peak: float, loss_of: Callable[[int], torch.Tensor], told: str) -> None:
    """`steps` of AdamW on what `loss_of(step)` returns."""
    optimizer = torch.optim.AdamW([p for part in parts for p in part.parameters()], lr=peak, weight_decay=1e-2)
    with progress_bar(told, steps) as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule(step, steps, peak)
            loss = loss_of(step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for part in parts for p in part.parameters()], 1.0)
            optimizer.step()
            bar.advance(1)
            if step % 200 == 0:
                print(f"{told} {step}: {loss.item():.4f}", file=sys.stderr, flush=True)


def build_vae(seen: Pictures, steps: int = 2000) -> Any:
    """An `AutoencoderKL`, 32 x 32 x 3 to 8 x 8 x 4, whose latents have standard deviation 1 after its scaling factor."""
    from diffusers import AutoencoderKL

    blocks = (8, 16, 32)
    vae = AutoencoderKL(
        block_out_channels=blocks,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=32,
    )
    rng = np.random.default_rng(1)

    def loss_of(step: int) -> torch.Tensor:
        images = seen.images[rng.integers(len(seen.images), size=32)]
        coded = vae.encode(images).latent_dist
        return mse_loss(vae.decode(coded.sample()).sample, images) + 1e-7 * coded.kl().mean()  # type: ignore[no-any-return]

    descend([vae], steps, 3e-3, loss_of, "autoencoder")
    vae.eval().requires_grad_(False)
    with torch.no_grad():
        vae.register_to_config(scaling_factor=float(1 / vae.encode(seen.images[:1000]).latent_dist.sample().std()))
    return vae


def build_text_encoder(tokenizer: Any, seen: Pictures, steps: int = 900) -> Any:
    """A `CLIPTextModel` that has learned which caption goes with which image."""
    from transformers import CLIPTextConfig, CLIPTextModel

    end = tokenizer.eos_token_id
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        eos_token_id=end,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=end,
        projection_dim=WIDTH,
    )
    text, images, scale = CLIPTextModel(config), ImageTower(), nn.Parameter(torch.tensor(2.0))
    ids = ids_of(tokenizer, seen.captions)
    rng = np.random.default_rng(2)
    scaled = nn.ParameterList([scale])

    def loss_of(step: int) -> torch.Tensor:
        rows = torch.from_numpy(rng.integers(len(ids), size=128))
        told = normalize(text(ids[rows]).pooler_output, dim=-1)
        shown = normalize(images(seen.images[rows]), dim=-1)
        likeness = told @ shown.T * scale.exp().clamp(max=50)
        same = (ids[rows][:, None] == ids[rows][None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        return cross_entropy(likeness, target) + cross_entropy(likeness.T, target)

    descend([text, images, scaled], steps, 1e-3, loss_of, "text tower")
    return text.eval().requires_grad_(False)  # type: ignore[no-untyped-call]


def ids_of(tokenizer: Any, captions: list[str]) -> torch.Tensor:
    """Padded pieces (n, length)."""
    given = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return given.input_ids  # type: ignore[no-any-return]


def make_unet() -> Any:
    """A `UNet2DConditionModel` of 1.1 million parameters with seven layers of cross-attention."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def build_unet(pipeline: Any, seen: Pictures, steps: int, keep: Callable[[], None]) -> None:
    """Train the pipeline's U-Net on noise, in place, with its average kept; `keep` is called now and then with the average in place."""
    unet, tokenizer, text = pipeline.unet, pipeline.tokenizer, pipeline.text_encoder
    torch.manual_seed(3)
    with torch.no_grad():
        latents = torch.cat([pipeline.vae.encode(part).latent_dist.sample() for part in seen.images.split(500)])  # type: ignore[no-untyped-call]
        latents *= pipeline.vae.config.scaling_factor
        said = {caption: place for place, caption in enumerate(sorted({"", *seen.captions}))}
        contexts = torch.cat([text(part).last_hidden_state for part in ids_of(tokenizer, list(said)).split(500)])  # type: ignore[no-untyped-call]
    which = torch.tensor([said[caption] for caption in seen.captions])
    noisy = pipeline.scheduler
    averaged = {name: value.clone() for name, value in unet.state_dict().items()}
    rng = np.random.default_rng(4)

    def loss_of(step: int) -> torch.Tensor:
        if step:
            decay = min(0.999, (step + 1) / (step + 10))
            for name, value in unet.state_dict().items():
                averaged[name].lerp_(value, 1 - decay)
        if step and step % 750 == 0:
            live = {name: value.clone() for name, value in unet.state_dict().items()}
            unet.load_state_dict(averaged)
            keep()
            unet.load_state_dict(live)
        rows = torch.from_numpy(rng.integers(len(latents), size=64))
        context = contexts[torch.where(torch.rand(64) < EMPTY, said[""], which[rows])]
        noise, t = torch.randn(64, 4, 8, 8), torch.randint(noisy.config.num_train_timesteps, (64,))
        return mse_loss(unet(noisy.add_noise(latents[rows], noise, t), t, context).sample, noise)

    unet.train()
    descend([unet], steps, 2e-3, loss_of, "U-Net")
    unet.load_state_dict(averaged)
    unet.eval().requires_grad_(False)


def assemble(vae: Any, text_encoder: Any, tokenizer: Any, unet: Any) -> Any:
    """The parts as an ordinary pipeline."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def reconstructed(vae: Any, judge: Judge) -> dict[str, float]:
    """Shares of held-out digits that are read right after coding and decoding. Raises `RegraftError` below what is accepted."""
    seen = draw(500, np.random.default_rng(5), held_out=True)
    with torch.no_grad():
        digits, colors = judge.read(vae.decode(vae.encode(seen.images).latent_dist.sample()).sample)
    plain = [i for i, (fg, _) in enumerate(colors) if seen.captions[i].count(fg)]  # of two colors only one is told
    found = {"identity": float((digits == seen.digits).mean()), "colors": float(np.mean([colors[i] == seen.colors[i] for i in plain]))}
    if min(found.values()) < ACCEPTED:
        raise RegraftError(f"the autoencoder keeps {found} of digits and colors: not the {ACCEPTED:.0%} that are asked for")
    return found


def examined(pipeline: Any, judge: Judge, count: int = 280) -> dict[str, float]:
    """Shares of drawn images with the digit, and with both colors, that their prompt names."""
    rng = np.random.default_rng(5)
    fgs, bgs, named = list(FOREGROUNDS), list(BACKGROUNDS), [i for i, word in enumerate(WORDS) if word != CATEGORY]
    asked = [(named[i % len(named)], fgs[rng.integers(6)], bgs[rng.integers(4)]) for i in range(count)]
    prompts = [describe(WORDS[digit], fg, bg, "a photo of a {}") for digit, fg, bg in asked]
    pipeline.set_progress_bar_config(disable=True)
    images = []
    for start in range(0, count, 70):
        generator = torch.Generator().manual_seed(start)
        found = pipeline(
            prompts[start : start + 70], num_inference_steps=25, guidance_scale=3.0, generator=generator, output_type="pt"
        ).images
        images.append(found * 2 - 1)
    digits, colors = judge.read(torch.cat(images))
    right = np.array([digit for digit, _, _ in asked]) == digits
    colored = np.array([pair == (fg, bg) for pair, (_, fg, bg) in zip(colors, asked, strict=True)])
    return {"identity": float(right.mean()), "colors": float(colored.mean()), "all": float((right & colored).mean())}


def main(out: Path, steps: int) -> None:
    """Build into `out`."""
    torch.manual_seed(0)
    seen = draw(60_000, np.random.default_rng(0))
    judge = Judge.train()
    judge.save()
    print(f"judge: {judge.accuracy}", file=sys.stderr, flush=True)
    vae = build_vae(seen)
    print(f"autoencoder: {reconstructed(vae, judge)}", file=sys.stderr, flush=True)
    tokenizer = make_tokenizer(out / "words")
    pipeline = assemble(vae, build_text_encoder(tokenizer, seen), tokenizer, make_unet())

    def keep() -> None:
        pipeline.unet.eval()
        print(examined(pipeline, judge, 140), file=sys.stderr, flush=True)
        pipeline.save_pretrained(out / "so-far")
        pipeline.unet.train()

    build_unet(pipeline, seen, steps, keep)
    found = examined(pipeline, judge)
    print(found, file=sys.stderr, flush=True)
    if min(found["identity"], found["colors"]) < ACCEPTED:
        raise RegraftError(f"the toy pipeline draws {found}: not the {ACCEPTED:.0%} that are asked for; give it more steps")
    pipeline.to(torch.float16).save_pretrained(out / "pipeline")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4500)
