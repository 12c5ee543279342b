"""LoRA: low-rank weights beside those of the U-Net's attention, tuned as DreamBooth does. A baseline of the family."""

import copy

import torch
from pydantic import PositiveFloat, PositiveInt

from regraft.concepts.kinds.adapter import AdapterConcept, added
from regraft.concepts.method import Learned, Lesson, Plan
from regraft.concepts.tuning import Tuning
from regraft.method import Paper

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


class Lora(Tuning):
    r"""DreamBooth-LoRA by diffusers' recipe: :math:`W + s\,BA` in the attention layers of the U-Net.

    :math:`A` (rank, in) starts random, :math:`B` (out, rank) at zero (section 4.1); the rest of the
    pipeline stays. A prompt calls the concept by a rare word and its class. :math:`s` may be changed at
    drawing (`AdapterConcept.scaled`). The file is what `load_lora_weights` opens.

    Attributes
    ----------
    rank : of each update.
    rare : a word that says nothing yet; the concept's own word stands for it and the class.
    prior : pictures of the class that the pipeline draws itself before it learns; 0: none.
    prior_weight : of their loss.
    prior_steps : of the sampler that draws them.
    flip : how often an image is mirrored.
    weight_decay : of AdamW.
    clip : length to which gradients are cut.
    """

    paper = Paper("LoRA: Low-Rank Adaptation of Large Language Models", "Hu et al.", 2021, "2106.09685")
    summary = "baseline: low-rank weights beside the U-Net's attention, as DreamBooth tunes"

    steps: PositiveInt = 500
    batch: PositiveInt = 4
    lr: PositiveFloat = 5e-4
    rank: PositiveInt = 4

    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft import LoraConfig, get_peft_model_state_dict

        unet, rows, beside = lesson.pipeline.unet, self.rows(lesson), self.class_pictures(lesson, plan.seed)
        config = LoraConfig(r=self.rank, lora_alpha=self.rank, init_lora_weights="gaussian", target_modules=list(ATTENTION))

        def load(name: str) -> None:
            with torch.random.fork_rng():
                torch.manual_seed(plan.seed)
                unet.add_adapter(copy.deepcopy(config), adapter_name=name)

        with added(lesson.pipeline, load) as name:
            parameters = {key: value for key, value in unet.named_parameters() if f".{name}." in key}
            for value in parameters.values():
                value.data = value.data.float()
                value.requires_grad_(True)
            run = self.tune(lesson, plan, parameters, rows, beside)
            found = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet, adapter_name=name))
            tensors = {f"unet.{key}": value.detach().clone() for key, value in found.items()}
        concept = AdapterConcept(lesson.word, tensors, rows=rows, init=lesson.init)
        return Learned(concept, sum(value.numel() for value in tensors.values()), run.curve, stopped=run.stopped)
