"""Words with a network, of the smallest size, and what a pipeline draws of them."""

from dataclasses import replace

import torch

from regraft.concepts.concept import context_of, together
from regraft.concepts.host.pipeline import towers
from regraft.concepts.kinds.mapper import MapperConcept
from regraft.concepts.spacetime.networks import Mapper, Shape

SHAPE = Shape(widths={"clip_l": 16}, lengths={"clip_l": 0.5}, layers=4, hidden=8, anchors=5, frequencies=32)
TIMES = torch.tensor([0.0, 17.0, 500.5, 999.0])


def mapper(seed=0, **changed):
    torch.manual_seed(seed)
    return Mapper(replace(SHAPE, **changed))


def rows(pipeline, seed=3, count=1):
    torch.manual_seed(seed)
    return {tower.key: torch.randn(count, tower.width) for tower in towers(pipeline)}


def taught(pipeline, word="<my-cat>", seed=0, **changed):
    widths = {tower.key: tower.width for tower in towers(pipeline)}
    net = mapper(seed, widths=widths, lengths=dict.fromkeys(widths, 0.5), **changed).requires_grad_(False)
    return MapperConcept(word, net, rows(pipeline), "cat")


def drawn(pipeline, concepts, prompts, **given):
    with together(pipeline, concepts), torch.no_grad():
        context = context_of(pipeline, concepts, prompts)
        noise = torch.Generator().manual_seed(1)
        return pipeline(**context.arguments(), num_inference_steps=3, generator=noise, output_type="pt", **given).images
