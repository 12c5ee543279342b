"""Text-to-image pipelines of the smallest size, with random weights: Stable Diffusion and its XL."""

import copy
import functools
import tempfile
from pathlib import Path

import numpy as np
import torch

SIDE = 16


@functools.cache
def made_tokenizer():
    from regraft.concepts.toy.words import make_tokenizer

    return make_tokenizer(Path(tempfile.mkdtemp(prefix="regraft-words-")))


def tokenizer():
    return copy.deepcopy(made_tokenizer())  # diffusers adds words to the one it is given


def clip(width, *, projection=False, seed=0):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=words.model_max_length,
        bos_token_id=words.bos_token_id,
        eos_token_id=2,  # as the checkpoints of Stable Diffusion say: the pooled place is then that of the greatest id
        projection_dim=width,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def parts(cross, **more):
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(1)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(block_out_channels=(4, 8), latent_channels=4, norm_num_groups=2, layers_per_block=1, sample_size=SIDE, **blocks)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=2,
        norm_num_groups=4,
        **more,
    )
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1)
    return {"vae": vae, "unet": unet, "scheduler": scheduler, "tokenizer": tokenizer()}


def stable_diffusion(width=16, **scheduler):
    from diffusers import StableDiffusionPipeline

    from regraft.concepts.host.pipeline import frozen

    given = parts(width)
    given["scheduler"] = type(given["scheduler"]).from_config(given["scheduler"].config, **scheduler)
    pipeline = StableDiffusionPipeline(
        **given, text_encoder=clip(width), safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    return frozen(pipeline)


def stable_diffusion_xl():
    from diffusers import StableDiffusionXLPipeline

    from regraft.concepts.host.pipeline import frozen

    given = parts(
        40,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=24 + 6 * 4,
    )
    encoders = {"text_encoder": clip(16), "text_encoder_2": clip(24, projection=True, seed=2), "tokenizer_2": tokenizer()}
    return frozen(StableDiffusionXLPipeline(**given, **encoders, force_zeros_for_empty_prompt=True))


def pictures(count=4, seed=0):
    from regraft.concepts.host.images import Pictures

    images = torch.from_numpy(np.random.default_rng(seed).random((count, 3, SIDE, SIDE), dtype=np.float32)) * 2 - 1
    return Pictures(images, [f"{i}.png" for i in range(count)])
