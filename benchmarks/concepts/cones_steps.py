"""Steps a second behind the text tower (ConES) and through it: `python benchmarks/concepts/cones_steps.py [--whole]`.

The text tower has the real shape of Stable Diffusion 1 (12 layers, 768 wide, 77 places); weights are random. Pictures: U-Nets of the real
layout at fractions of the real width, 32 x 32 latents, the same pictures and captions, textual inversion as the peer; `--whole` adds the
U-Net at its real width with 64 x 64 latents, one picture a step (minutes, 6 GB). Classes: features computed once, prompt tuning (CoOp) and
textual inversion of class words as the peers. The toy is `toy-t2i` as it is shipped. Processor seconds of one thread, medians, ratios
within one run.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from regraft.concepts.host.images import Pictures
from regraft.concepts.host.pipeline import frozen, open_pipeline
from regraft.concepts.method import Lesson, Plan
from regraft.concepts.methods.cones import Cones
from regraft.concepts.methods.textual_inversion import TextualInversion
from regraft.concepts.search import Pace, search
from regraft.concepts.search.recognition import classification
from regraft.concepts.search.through_text import ThroughText
from regraft.concepts.toy import NAME, WEIGHTS
from regraft.concepts.toy.words import make_tokenizer

BOUND = 3  # times as many steps a second
REAL = (320, 640, 1280, 1280)
WIDTH, LENGTH, VOCABULARY = 768, 77, 49408
CLASSES, SHOTS = ("zero", "one", "three", "five", "six", "eight", "nine", "cat", "dog", "face"), 4
CAPTIONS = ("a photo of a {}", "a picture of the {}", "a drawing of the {}", "a {}")


def text_tower():
    """A tokenizer and a `CLIPTextModelWithProjection` of the real shape."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    words = make_tokenizer(Path(tempfile.mkdtemp(prefix="regraft-words-")))
    words.model_max_length = LENGTH
    shape = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = CLIPTextConfig(
        vocab_size=VOCABULARY, max_position_embeddings=LENGTH, projection_dim=WIDTH, eos_token_id=words.eos_token_id, **shape
    )
    torch.manual_seed(0)
    return words, CLIPTextModelWithProjection(config).eval().requires_grad_(False)


def pipeline_of(words, tower, part, size):
    """A `StableDiffusionPipeline` whose U-Net has a `part` of the real width."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    down, up = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    channels = tuple(round(width * part) for width in REAL)
    unet = UNet2DConditionModel(
        sample_size=size,
        block_out_channels=channels,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), latent_channels=4, norm_num_groups=2, layers_per_block=1, sample_size=8 * size, **blocks
    )
    told = CLIPTextModel(tower.config)
    told.load_state_dict({key.removeprefix("text_model."): value for key, value in tower.state_dict().items()}, strict=False)
    parts = {
        "vae": vae,
        "unet": unet,
        "text_encoder": told,
        "tokenizer": words,
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1),
    }
    return frozen(StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False))


def seconds_a_step(method, lesson, steps):
    """Processor seconds of one step: of `steps` more than one, without what goes before them."""
    took = []
    for count in (1, 1 + steps):
        start = time.process_time()
        method.learn(lesson, Plan(steps=count))
        took.append(time.process_time() - start)
    return (took[1] - took[0]) / steps


def pictures(pipeline, side, batch, steps, runs):
    """Medians of a step through the tower and behind it."""
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    lesson = Lesson(pipeline, Pictures(images, [f"{i}.png" for i in range(4)]), "<my-digit>", "digit", sentences=CAPTIONS)
    ways = {"through": TextualInversion(batch=batch), "behind": Cones(batch=batch)}
    found = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            found[name].append(seconds_a_step(way, lesson, steps))
    return {name: statistics.median(took) for name, took in found.items()}


def classes(words, tower, steps, runs):
    """Medians of a step of the search of class rows, of CoOp and of textual inversion, on the same features."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(len(CLASSES)).repeat_interleave(SHOTS)
    task = classification(torch.randn(len(labels), WIDTH, generator=draw), labels, torch.arange(len(CLASSES)))
    asked = ((lambda ids, mask: tower(input_ids=ids, attention_mask=mask).text_embeds), tower.get_input_embeddings(), words, CLASSES)
    context, own = ThroughText.context(*asked), ThroughText.class_words(*asked)
    with torch.no_grad():
        start = context(context.start)
    ways = {"behind": (task, start, 100), "CoOp": (task.through(context), context.start, steps)}
    ways["textual inversion"] = (task.through(own), own.start, steps)
    found = {name: [] for name in ways}
    for _ in range(runs):
        for name, (given, rows, count) in ways.items():
            began = time.process_time()
            search(given, rows, pace=Pace(steps=count, batch=16))
            found[name].append((time.process_time() - began) / count)
    return {name: statistics.median(took) for name, took in found.items()}


def told(name, through, behind):
    """A line of the table, and whether the bound holds."""
    print(f"{name:52}{1e3 * through:12.1f}{1e3 * behind:12.1f}{through / behind:9.2f} x{1 - behind / through:14.0%}", flush=True)
    return through >= BOUND * behind


def main(whole: bool) -> int:
    torch.set_num_threads(1)
    words, tower = text_tower()
    print(f"{'ms a step, one thread':52}{'through':>12}{'behind':>12}{'ratio':>11}{'tower share':>14}", flush=True)
    held = []
    for part in (0.05, 0.1, 0.2):
        took = pictures(pipeline_of(words, tower, part, 32), 256, 2, 2, 3)
        held.append(told(f"pictures, U-Net at {part:.0%} of SD 1.5's width, batch 2", **took))
    if whole:
        took = pictures(pipeline_of(words, tower, 1.0, 64), 512, 1, 1, 3)
        held.append(told("pictures, U-Net at SD 1.5's width, batch 1", **took))
    if WEIGHTS.is_dir():
        held.append(told("pictures, toy-t2i, batch 8", **pictures(open_pipeline(NAME), 32, 8, 20, 3)))
    took = classes(words, tower, 1, 3)
    for peer in ("CoOp", "textual inversion"):
        held.append(told(f"{len(CLASSES)} classes, {SHOTS} pictures each, beside {peer}", took[peer], took["behind"]))
    print(f"bound {BOUND} x: {sum(held)} of {len(held)} hold")
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main("--whole" in sys.argv))
