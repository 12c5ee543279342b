"""XTI: a free vector of the word for each layer of cross-attention, at all times alike."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.concepts.spacetime.learning import learn_network, row_of
from regraft.concepts.spacetime.networks import LayerRows
from regraft.concepts.spacetime.readers import cross_attention
from regraft.method import Paper


class XTI(ConceptMethod):
    r"""Extended textual inversion: a row of the word for each layer, all from the row of a known word.

    .. math:: (v_1, \dots, v_L)^* = \arg\min\; \mathbb{E} \lVert \epsilon - \epsilon_\theta(z_t, t, E(y; v_1), \dots, E(y; v_L)) \rVert^2

    where layer :math:`\ell` reads the caption :math:`y` with :math:`v_\ell` in the word's place.

    INFERRED: steps and rate, from accounts of the paper; it reads keys and values alike.

    Attributes
    ----------
    flip : how often an image is mirrored.
    weight_decay : of AdamW, on the rows.
    """

    name = "xti"
    paper = Paper("P+: Extended Textual Conditioning in Text-to-Image Generation", "Voynov et al.", 2023, "2303.09522")
    summary = "a free row of the word for each layer of cross-attention"

    steps: PositiveInt = 500
    batch: PositiveInt = 8
    lr: PositiveFloat = 5e-3
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    weight_decay: NonNegativeFloat = 1e-2

    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        row = row_of(lesson.pipeline, lesson.init, self.name)
        layers = len(cross_attention(lesson.pipeline.unet))
        net = LayerRows({key: value.expand(layers, -1) for key, value in row.items()})
        return learn_network(lesson, plan, self, net, row, flip=self.flip, weight_decay=self.weight_decay)
