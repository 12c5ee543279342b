"""NeTI: a small network gives a word its vector for every time of denoising and every layer that reads it."""

from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.concepts.spacetime.learning import learn_network, row_of
from regraft.concepts.spacetime.networks import Encoding, Mapper, Norm, Over, Shape
from regraft.concepts.spacetime.readers import cross_attention
from regraft.method import Paper


class NeTI(ConceptMethod):
    r"""A mapper of time and layer in place of a word's row, and a second output that goes past the text tower.

    .. math:: (v, v') = M(t, \ell), \qquad o' = o + s\, \lVert o \rVert\, \frac{v'}{\lVert v' \rVert}

    :math:`v` stands in the word's place at the tower's input, with the length of the row of `init`; :math:`o` is
    the tower's state there before its last norm. Layer :math:`\ell` takes its keys from the plain context and its
    values from the one with :math:`o'` (sections 4 and 5). Hidden units are cut at random while it learns
    (nested dropout), so that a concept can be truncated when it is drawn.

    INFERRED: the paper scales :math:`v` alone (``norm="split"``); the released code scales both outputs as one
    vector (``"joint"``). For XL, where the paper says nothing, each tower has outputs of its own and the pooled
    vector is that of `init`. A batch holds a pass of the towers for each of its images and layers: for the 70
    layers of XL take ``batch=1``.

    Attributes
    ----------
    hidden : units of the hidden layers, and what a truncation counts.
    nested : how often a layer's hidden units are cut, of each sample at a place of its own.
    bypass : the second output.
    strength : of the bypass, beside the state that it is added to.
    norm : "split", base vectors have the length of the row of `init`; "joint", both outputs together have it.
    anchors : in time, of the first layer; beside every layer of cross-attention.
    frequencies : random ones of the code of time and layer.
    sigma_t : spread of the frequencies of time.
    sigma_layer : spread of the frequencies of layers.
    encoding : "fourier", or "plain": time and layer in [-1, 1] with no anchors.
    over : what vectors depend on; "time" or "layer" alone leaves the other out.
    flip : how often an image is mirrored.
    weight_decay : of AdamW, on the mapper.
    """

    name = "neti"
    paper = Paper("A Neural Space-Time Representation for Text-to-Image Personalization", "Alaluf et al.", 2023, "2305.15391")
    summary = "a network of time and layer in place of a row, with a slider of likeness"

    steps: PositiveInt = 1000
    batch: PositiveInt = 8
    lr: PositiveFloat = 8e-3
    hidden: PositiveInt = 128
    nested: Annotated[float, Field(ge=0, le=1)] = 0.5
    bypass: bool = True
    strength: NonNegativeFloat = 0.2
    norm: Norm = "split"
    anchors: PositiveInt = 10
    frequencies: PositiveInt = 1024
    sigma_t: NonNegativeFloat = 0.03
    sigma_layer: NonNegativeFloat = 2.0
    encoding: Encoding = "fourier"
    over: Over = "both"
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    weight_decay: NonNegativeFloat = 1e-2

    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        row = row_of(lesson.pipeline, lesson.init, self.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            net = Mapper(self.shape(lesson.pipeline, row))
        return learn_network(lesson, plan, self, net, row, flip=self.flip, weight_decay=self.weight_decay)

    def shape(self, pipeline: Any, row: dict[str, torch.Tensor]) -> Shape:
        """That of a mapper for a pipeline, its vectors as long as `row` (1, width) of each tower."""
        return Shape(
            widths={key: value.shape[1] for key, value in row.items()},
            lengths={key: float(value.float().norm()) for key, value in row.items()},
            layers=len(cross_attention(pipeline.unet)),
            times=int(pipeline.scheduler.config.num_train_timesteps),
            **{name: getattr(self, name) for name in SHARED},
        )


SHARED = ("hidden", "anchors", "frequencies", "sigma_t", "sigma_layer", "encoding", "over", "bypass", "strength", "norm", "nested")
