"""DreamBooth: every weight of the U-Net is tuned to a concept's pictures. A baseline of the family."""

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from regraft.concepts.kinds.finetuned import FinetunedConcept, config_of, trainable
from regraft.concepts.method import Learned, Lesson, Plan
from regraft.concepts.tuning import Tuning
from regraft.method import Paper


class Dreambooth(Tuning):
    r"""All weights of the U-Net by the diffusion loss, with the class's own pictures beside the concept's.

    .. math:: L = \lVert \epsilon - \epsilon_\theta(z_t, t, c) \rVert^2
              + \lambda \lVert \epsilon' - \epsilon_\theta(z'_{t'}, t', c_{pr}) \rVert^2

    :math:`c` reads "a photo of [rare word] [class]", :math:`c_{pr}` "a photo of [class]", and
    :math:`z'` are pictures that the frozen pipeline draws of :math:`c_{pr}` (section 3.3). The
    text encoder stays frozen, as by default in diffusers' script.

    Attributes
    ----------
    rare : a word that says nothing yet; the concept's own word stands for it and the class.
    prior : pictures of the class that the pipeline draws itself before it learns; 0: none.
    prior_weight : of their loss.
    prior_steps : of the sampler that draws them.
    flip : how often an image is mirrored.
    weight_decay : of AdamW.
    clip : length to which gradients are cut.
    """

    paper = Paper(
        "DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven Generation", "Ruiz et al.", 2022, "2208.12242"
    )  # fmt: skip
    summary = "baseline: all weights of the U-Net, with pictures of the class beside"

    steps: PositiveInt = 800
    batch: PositiveInt = 1
    lr: PositiveFloat = 5e-6
    prior: NonNegativeInt = 200

    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        unet, rows, beside = lesson.pipeline.unet, self.rows(lesson), self.class_pictures(lesson, plan.seed)
        with trainable(unet) as parameters:
            run = self.tune(lesson, plan, parameters, rows, beside)
            learned = {name: value.detach().clone() for name, value in unet.state_dict().items()}
        concept = FinetunedConcept(lesson.word, learned, config_of(unet), rows, lesson.init)
        return Learned(concept, sum(value.numel() for value in parameters.values()), run.curve, stopped=run.stopped)
