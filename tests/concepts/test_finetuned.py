"""A word beside a tuned U-Net: plain diffusers opens both files, and the pipeline has its own weights again afterwards."""

import pytest
import torch

from regraft.concepts.concept import load_concept, together
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.pipeline import encode
from regraft.concepts.host.words import rows_of
from regraft.concepts.kinds.finetuned import FinetunedConcept, config_of
from regraft.errors import CheckpointError, ParameterError
from toys.pipelines import pictures, stable_diffusion, stable_diffusion_xl


def concept(pipeline, **more):
    unet = {name: value + 0.01 for name, value in pipeline.unet.state_dict().items()}
    return FinetunedConcept("<my-cat>", unet, config_of(pipeline.unet), **{"rows": rows_of(pipeline, "cat"), "init": "cat", **more})


def predicted(pipeline):
    diffusion = Diffusion(pipeline, pictures().images)
    with torch.no_grad():
        return diffusion.predict(diffusion.grid(1)[0], encode(pipeline, ["a cat"] * 4))


def test_diffusers_opens_what_is_written_and_says_the_same(tmp_path):
    from diffusers import UNet2DConditionModel

    pipeline = stable_diffusion()
    concept(pipeline).save(tmp_path)
    read = load_concept(tmp_path)
    assert (read.word, read.init, read.rows["clip_l"].shape) == ("<my-cat>", "cat", (1, 16))
    with together(pipeline, [read]):
        ours = predicted(pipeline)
    plain = stable_diffusion()
    plain.unet = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    assert torch.equal(ours, predicted(plain))
    assert not torch.allclose(ours, predicted(pipeline))


def test_the_pipeline_has_its_own_weights_again():
    pipeline = stable_diffusion()
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    with pytest.raises(RuntimeError, match="stop"), together(pipeline, [concept(pipeline)]):
        raise RuntimeError("stop")
    assert all(torch.equal(before[name], value) for name, value in pipeline.unet.state_dict().items())


def test_a_concept_may_go_by_a_known_word(tmp_path):
    pipeline = stable_diffusion()
    concept(pipeline, rows={}).save(tmp_path)
    assert load_concept(tmp_path).words() == {}
    assert not (tmp_path / "learned_embeds.safetensors").exists()


def test_weights_of_another_unet_are_refused(tmp_path):
    other = concept(stable_diffusion_xl(), rows={})
    with pytest.raises(ParameterError, match="another U-Net"), together(stable_diffusion(), [other]):
        pass
    other.save(tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"odd")
    with pytest.raises(CheckpointError, match="not weights of a U-Net"):
        load_concept(tmp_path)
