"""The head in closed form: token-wise, the mean where its layers are zero, blind to padding, constant for equal latents."""

import shutil
from pathlib import Path

import pytest
import torch

from regraft.errors import CheckpointError
from regraft.method import resolve
from regraft.text.loading import load
from regraft.text.modules.latent_attention import LatentAttention
from regraft.text.modules.masked_pooling import MaskedPooling, last_state, pooling_mask


def made(keys="latents", variant="released", **more):
    torch.manual_seed(0)
    return LatentAttention(16, keys=keys, variant=variant, **({"latents": 6, "heads": 2, "dim_head": 8} | more)).eval()


def batch(lengths=(5, 3), seed=1):
    states = torch.randn(len(lengths), max(lengths), 16, generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    return {"token_embeddings": states, "attention_mask": mask}


VARIANTS = pytest.mark.parametrize("variant", ["released", "paper"])


@VARIANTS
@pytest.mark.parametrize("keys", ["latents", "tokens"])
def test_token_wise_by_latents_and_not_by_tokens(keys, variant):
    head, given = made(keys, variant), batch()
    other = given["token_embeddings"].clone()
    other[:, 1:] += 1
    found = [head.token_states(states, given["attention_mask"])[:, 0] for states in (given["token_embeddings"], other)]
    assert torch.equal(*found) == (keys == "latents")


@pytest.mark.parametrize("keys", ["latents", "tokens"])
def test_with_zero_output_layers_it_is_the_mean_and_eos_stands_in_for_nothing(keys):
    head, given = made(keys), batch((5, 3, 4))
    given["pooling_mask"] = given["attention_mask"].clone()
    given["pooling_mask"][0, :2] = 0
    given["pooling_mask"][2] = 0  # all instruction
    with torch.no_grad():
        head.out.weight.zero_()
        head.ff[2].weight.zero_()
        head.ff[2].bias.zero_()
    states = given["token_embeddings"]
    wanted = torch.stack([states[0, 2:5].mean(0), states[1, :3].mean(0), states[2, 3]])
    torch.testing.assert_close(head(dict(given))["sentence_embedding"], wanted)
    torch.testing.assert_close(MaskedPooling(16, "mean")(dict(given))["sentence_embedding"], wanted)
    torch.testing.assert_close(last_state(states, given["attention_mask"]), torch.stack([states[0, 4], states[1, 2], states[2, 3]]))


@VARIANTS
@pytest.mark.parametrize("keys", ["latents", "tokens"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_nothing(keys, variant, side):
    head, given = made(keys, variant), batch((5, 5))
    padding = torch.full((2, 4, 16), 7.0), torch.zeros(2, 4, dtype=torch.long)
    wide = {
        name: torch.cat([given[name], more] if side == "right" else [more, given[name]], dim=1)
        for name, more in zip(("token_embeddings", "attention_mask"), padding, strict=True)
    }
    torch.testing.assert_close(head(wide)["sentence_embedding"], head(given)["sentence_embedding"])


@VARIANTS
def test_identical_latents_give_every_token_the_same(variant):
    head, states = made(variant=variant), batch()["token_embeddings"]
    with torch.no_grad():
        head.array.copy_(head.array[:1].expand_as(head.array))
    found = head.attend(states, head.array[None])
    torch.testing.assert_close(found, found[:1, :1].expand_as(found))


def test_the_released_form_by_hand():
    head, states = made(), batch((4,))["token_embeddings"]
    q, kv = head.q(head.norm_states(states[0])), head.kv(head.norm_keys(head.array))
    parts = []
    for one in range(2):
        at = slice(8 * one, 8 * one + 8)
        share = (q[:, at] @ kv[:, :16][:, at].T / 8**0.5).softmax(-1)
        parts.append(share @ kv[:, 16:][:, at])
    first = states[0] + head.out(torch.cat(parts, 1))
    value, gate = head.ff[0](head.norm_ff(first)).chunk(2, -1)
    wanted = first + head.ff[2](value * torch.nn.functional.gelu(gate))
    torch.testing.assert_close(head.token_states(states, torch.ones(1, 4))[0], wanted)
    assert LatentAttention(16, latents=2, heads=2).q.out_features == 32  # as released: the width of a head is that of the model


def test_the_papers_form_by_hand():
    head, states = made(variant="paper"), batch((4,))["token_embeddings"][0]
    halves = [(states[:, at] @ head.array[:, at].T).softmax(-1) @ head.array[:, at] for at in (slice(8), slice(8, 16))]
    torch.testing.assert_close(head.token_states(states[None], torch.ones(1, 4))[0], head.mlp(torch.cat(halves, 1)))


def test_a_prompt_of_another_transformer_is_left_out_of_the_pooling():
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])
    assert pooling_mask({"attention_mask": mask, "prompt_length": torch.tensor([2])}).tolist() == [[0, 0, 1, 1], [0, 0, 0, 1]]
    assert pooling_mask({"attention_mask": mask, "prompt_length": 0}).tolist() == mask.tolist()
    assert pooling_mask({"attention_mask": mask}).tolist() == mask.tolist()


def test_a_step_of_training_marks_it_and_the_mark_is_saved(tmp_path):
    head, given = made(), batch()
    head(given)
    assert not head.trained
    head.train()(given)
    head.save(str(tmp_path))
    again = LatentAttention.load(str(tmp_path))
    assert again.trained
    torch.testing.assert_close(again.eval()(given)["sentence_embedding"], head.eval()(given)["sentence_embedding"])


@pytest.mark.parametrize(
    "gone", ["1_LatentAttention/config.json", "1_LatentAttention/model.safetensors", "1_LatentAttention", "modules.json"]
)
def test_a_saved_model_that_lacks_a_part_is_one_line(gone, llama_folder, tmp_path):
    model = resolve("encoder", "nv-embed", {"latents": 2, "heads": 2, "dim_head": 2, "ff_mult": 1}).build(llama_folder)
    model.save_pretrained(str(tmp_path / "m"))
    (shutil.rmtree if (tmp_path / "m" / gone).is_dir() else Path.unlink)(tmp_path / "m" / gone)
    with pytest.raises(CheckpointError, match=str(tmp_path / "m")):
        load(tmp_path / "m")
